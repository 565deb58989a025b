package admin

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// secure sets the fields that keep a browser from doing more with an answer
// than show it.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// cookie holds the proof that a browser knew the token.
const cookie = "muster_admin"

// guard lets those through who may see more than metrics and health: with a
// token who has it, without one who comes over the loopback address and means
// it.
func (a *Admin) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case a.cfg.Token != "" && r.URL.Path == "/" && r.URL.Query().Has("token"):
			a.login(w, r)
		case a.cfg.Token != "" && !a.hasToken(r):
			w.Header().Set("WWW-Authenticate", `Bearer realm="muster"`)
			http.Error(w, "A token is needed here: open /?token=TOKEN once in this browser, or send \"Authorization: Bearer TOKEN\".\n"+
				"/metrics, /healthz and /readyz need none.", http.StatusUnauthorized)
		case a.cfg.Token == "" && !a.loopback():
			http.Error(w, "This address can be reached from other machines and no token is set, so only /metrics, /healthz and /readyz answer here.\n"+
				"Set a token, or serve this on a loopback address such as 127.0.0.1:9900.", http.StatusForbidden)
		case a.cfg.Token == "" && !loopbackName(r.Host):
			http.Error(w, "This is served to this machine only, so it answers to localhost and loopback addresses, not to the name in this request.\n"+
				"Open http://"+a.Addr().String()+"/, or set a token.", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (a *Admin) loopback() bool {
	tcp, ok := a.Addr().(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// loopbackName reports whether a request's Host names this machine by a name
// that no name server rules: a page of some other site whose name was pointed
// here (DNS rebinding) comes with that site's name.
func loopbackName(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// login takes ?token= once and answers with a cookie, so that the token stays
// neither in the address line nor in the browser's history.
func (a *Admin) login(w http.ResponseWriter, r *http.Request) {
	if !same(r.URL.Query().Get("token"), a.cfg.Token) {
		http.Error(w, "This is not the token.", http.StatusUnauthorized)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookie, Value: a.proof(), Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (a *Admin) hasToken(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") && same(token, a.cfg.Token) {
		return true
	}
	c, err := r.Cookie(cookie)
	return err == nil && same(c.Value, a.proof())
}

// proof is what the cookie holds in place of the token.
func (a *Admin) proof() string {
	mac := hmac.New(sha256.New, []byte(a.cfg.Token))
	mac.Write([]byte(cookie))
	return hex.EncodeToString(mac.Sum(nil))
}

// same compares in a time that tells nothing.
func same(got, want string) bool {
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	return hmac.Equal(a[:], b[:])
}
