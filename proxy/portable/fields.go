// This file runs once per request.

package portable

import (
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"

	"muster/proxy/balance"
)

// rewrite makes the request that goes upstream: everything end-to-end as the
// client sent it, and the proxy's own fields. ReverseProxy has removed the
// hop-by-hop fields before, those that Connection names too, so a client can't
// have ours removed.
func rewrite(pr *httputil.ProxyRequest) {
	x := exchangeOf(pr.In.Context())
	h := pr.Out.Header
	for name := range h {
		if balance.Dropped(name) {
			delete(h, name)
		}
	}
	pr.SetXForwarded()
	if pr.In.Host == "" { // HTTP/1.0
		delete(h, "X-Forwarded-Host")
	}
	h["X-Request-Id"] = []string{x.record.RequestID}
	if x.upgrade == "" && h.Get("Te") != "" {
		h["Connection"] = []string{"TE"}
	}
	pr.Out.Trailer = pr.In.Trailer // filled when the body has been read
	// The target goes out byte for byte. net/http would write one that begins
	// with two slashes as a URL.
	url := pr.Out.URL
	url.RawQuery, url.ForceQuery = pr.In.URL.RawQuery, pr.In.URL.ForceQuery
	if raw := rawPath(pr.In); url.EscapedPath() != raw && !strings.HasPrefix(raw, "//") {
		url.Opaque = raw
	}
}

// keepUpgrade returns the protocol that r may switch to, and takes the wish
// away from every other request: it is then served without (RFC 9110, section
// 7.8).
func keepUpgrade(r *http.Request) string {
	values := r.Header["Upgrade"]
	if r.Method == http.MethodGet && r.ProtoAtLeast(1, 1) && r.ContentLength == 0 &&
		len(values) == 1 && strings.EqualFold(values[0], "websocket") && slices.ContainsFunc(r.Header["Connection"], listsUpgrade) {
		return values[0]
	}
	delete(r.Header, "Upgrade")
	return ""
}

// listsUpgrade reports whether "upgrade" is a member of a Connection line.
func listsUpgrade(line string) bool {
	for member := range strings.SplitSeq(line, ",") {
		if strings.EqualFold(strings.TrimSpace(member), "upgrade") {
			return true
		}
	}
	return false
}

// modifyResponse makes the answer's head what the client gets.
func modifyResponse(res *http.Response) error {
	x := exchangeOf(res.Request.Context())
	if res.StatusCode == http.StatusSwitchingProtocols {
		protocol := res.Header.Get("Upgrade")
		if x.upgrade == "" || !strings.EqualFold(protocol, x.upgrade) {
			res.Body.Close()
			return failure{balance.UpgradeFailed}
		}
		removeHopByHop(res.Header)
		res.Header["Connection"] = []string{"Upgrade"}
		res.Header["Upgrade"] = []string{protocol}
		x.tunnel = true
	}
	res.Header["X-Request-Id"] = []string{x.record.RequestID}
	return nil
}

// failed answers for a request that no upstream answered.
func failed(rw http.ResponseWriter, r *http.Request, err error) {
	w := rw.(*writer)
	kind := balance.Internal
	if f, ok := err.(failure); ok {
		kind = f.kind
	} else if w.x.tunnel || r.Context().Err() != nil {
		kind = balance.ClientGone
	}
	w.x.answer(w, kind)
}

// removeHopByHop removes the fields that concern one connection only, and those
// that Connection names (RFC 9110, section 7.6.1).
func removeHopByHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range []string{
		"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Http2-Settings", "Proxy-Authenticate", "Proxy-Authorization",
	} {
		delete(h, name)
	}
}
