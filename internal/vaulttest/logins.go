package vaulttest

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/hashicorp/vault/api"

	"muster/internal/etcdtest"
)

// A Login is what a client needs to know for one of Vault's logins.
type Login struct {
	RoleID, SecretID   string
	AppID, UserID      string
	Username, Password string
	Token              string // of GitHub
	JWT                string // of a pod's service account
}

// Login enables the login of confd's name kind at mount, and lets somebody in who
// gets a token with policy, which lives so long. GitHub and Kubernetes are played
// by this process, as far as Vault asks them. Certificates are those that the CA
// in the file signed.
func (s *Server) Login(kind, mount, policy, ttl, caFile string) (l Login) {
	s.tb.Helper()
	plugin := map[string]string{"app-role": "approle"}[kind]
	if plugin == "" {
		plugin = kind
	}
	s.again("enable "+kind, func() error {
		return s.client.Sys().EnableAuthWithOptions(mount, &api.EnableAuthOptions{Type: plugin})
	})
	at := "auth/" + mount
	token := func(more map[string]any) map[string]any {
		more["token_policies"], more["token_ttl"] = policy, ttl
		return more
	}
	switch kind {
	case "app-role":
		s.Write(at+"/role/web", token(map[string]any{}))
		role, err := s.client.Logical().Read(at + "/role/web/role-id")
		if err != nil {
			s.tb.Fatal(err)
		}
		l.RoleID, _ = role.Data["role_id"].(string)
		l.SecretID, _ = s.Write(at+"/role/web/secret-id", nil).Data["secret_id"].(string)
	case "app-id":
		l.AppID, l.UserID = "web-app", "this-machine"
		s.Write(at+"/map/app-id/"+l.AppID, map[string]any{"value": policy, "display_name": "web"})
		s.Write(at+"/map/user-id/"+l.UserID, map[string]any{"value": l.AppID})
	case "userpass":
		l.Username, l.Password = "reader", "pass-word"
		s.Write(at+"/users/"+l.Username, token(map[string]any{"password": l.Password}))
	case "cert":
		text, err := os.ReadFile(caFile)
		if err != nil {
			s.tb.Fatal(err)
		}
		s.Write(at+"/certs/web", token(map[string]any{"certificate": string(text)}))
	case "github":
		l.Token = "gh-token"
		s.Write(at+"/config", token(map[string]any{"organization": "acme", "organization_id": 7, "base_url": s.gitHub(l.Token) + "/"}))
		s.Write(at+"/map/users/octocat", map[string]any{"value": policy})
	case "kubernetes":
		ca, err := os.ReadFile(etcdtest.NewCerts(s.tb).CA) // it has to have one
		if err != nil {
			s.tb.Fatal(err)
		}
		l.RoleID = "web"
		l.JWT = jwt(map[string]any{
			"iss":                                    "kubernetes/serviceaccount",
			"sub":                                    "system:serviceaccount:default:web",
			"kubernetes.io/serviceaccount/namespace": "default",
			"kubernetes.io/serviceaccount/service-account.name": "web",
			"kubernetes.io/serviceaccount/service-account.uid":  "uid-1",
			"kubernetes.io/serviceaccount/secret.name":          "web-token",
		})
		s.Write(at+"/config", map[string]any{"kubernetes_host": s.kubernetes(l.JWT), "kubernetes_ca_cert": string(ca), "token_reviewer_jwt": reviewer, "disable_local_ca_jwt": true})
		s.Write(at+"/role/"+l.RoleID, token(map[string]any{"bound_service_account_names": "web", "bound_service_account_namespaces": "default"}))
	default:
		s.tb.Fatalf("vaulttest: login %s: unknown", kind)
	}
	return l
}

// serve runs a server of this process until the test ends.
func (s *Server) serve(h http.Handler) (url string) {
	server := httptest.NewServer(h)
	s.tb.Cleanup(server.Close)
	return server.URL
}

// gitHub answers as https://docs.github.com/rest does about the user of token.
func (s *Server) gitHub(token string) (url string) {
	mux := http.NewServeMux()
	answer := func(path string, body any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer "+token {
				http.Error(w, `{"message":"Bad credentials"}`, http.StatusUnauthorized)
				return
			}
			_ = json.NewEncoder(w).Encode(body)
		})
	}
	org := map[string]any{"login": "acme", "id": 7}
	answer("/user", map[string]any{"login": "octocat", "id": 1})
	answer("/user/orgs", []any{org})
	answer("/user/teams", []any{})
	return s.serve(mux)
}

// reviewer is the token with which Vault asks Kubernetes.
var reviewer = jwt(map[string]any{"sub": "system:serviceaccount:default:vault"})

// kubernetes reviews tokens as Kubernetes' API does: good is the one of the
// service account web.
func (s *Server) kubernetes(good string) (url string) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /apis/authentication.k8s.io/v1/tokenreviews", func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			Spec struct{ Token string }
		}
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || r.Header.Get("Authorization") != "Bearer "+reviewer {
			http.Error(w, "{}", http.StatusUnauthorized)
			return
		}
		status := map[string]any{"authenticated": review.Spec.Token == good}
		if review.Spec.Token == good {
			status["user"] = map[string]any{"username": "system:serviceaccount:default:web", "uid": "uid-1"}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status})
	})
	return s.serve(mux)
}

// jwt is a token with claims. Nobody checks its signature: Kubernetes is asked.
func jwt(claims map[string]any) string {
	part := func(v any) string {
		text, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	return strings.Join([]string{part(map[string]any{"alg": "RS256", "typ": "JWT"}), part(claims), base64.RawURLEncoding.EncodeToString([]byte("signed"))}, ".")
}
