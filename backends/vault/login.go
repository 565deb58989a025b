package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// jwtFile is where Kubernetes puts the token of a pod's service account.
const jwtFile = "/var/run/secrets/kubernetes.io/serviceaccount/token"

// AuthTypes are confd's names of the logins.
var AuthTypes = []string{"token", "app-role", "app-id", "github", "userpass", "kubernetes", "cert"}

// Auth is how to log in. Type is one of [AuthTypes], and wants:
//
//	token        Token, or TokenFile, or the variable VAULT_TOKEN
//	app-role     RoleID, SecretID
//	app-id       AppID, UserID
//	github       Token, of GitHub
//	userpass     Username, Password
//	kubernetes   RoleID, the role; JWTFile
//	cert         the certificate of Config.Files
type Auth struct {
	Type string

	// Mount is where the login is mounted below auth/; empty means the type's own
	// name, which is approle for app-role.
	Mount string

	Token, TokenFile   string // the file is read at each login
	RoleID, SecretID   string
	AppID, UserID      string
	Username, Password string
	JWTFile            string // empty: as Kubernetes has it
}

// check says what is missing, in confd's words.
func (a *Auth) check() error {
	type option struct{ name, value string }
	var wanted []option
	switch a.Type {
	case "token":
		wanted = []option{{"token", cmp.Or(a.Token, a.TokenFile, os.Getenv(api.EnvVaultToken))}}
	case "github":
		wanted = []option{{"token", cmp.Or(a.Token, a.TokenFile)}}
	case "app-id":
		wanted = []option{{"app-id", a.AppID}, {"user-id", a.UserID}}
	case "app-role":
		wanted = []option{{"role-id", a.RoleID}, {"secret-id", a.SecretID}}
	case "userpass":
		wanted = []option{{"username", a.Username}, {"password", a.Password}}
	case "kubernetes":
		wanted = []option{{"role-id", a.RoleID}}
	case "cert":
	default:
		return fmt.Errorf("auth %q: want %s", a.Type, strings.Join(AuthTypes, ", "))
	}
	for _, w := range wanted {
		if w.value == "" {
			return fmt.Errorf("%s is missing from configuration", w.name)
		}
	}
	return nil
}

// token is the one that is given.
func (a *Auth) token() (string, error) {
	if a.TokenFile == "" {
		return cmp.Or(a.Token, os.Getenv(api.EnvVaultToken)), nil
	}
	return secretFile(a.TokenFile)
}

func secretFile(path string) (string, error) {
	text, err := os.ReadFile(path)
	secret := strings.TrimSpace(string(text))
	if err == nil && secret == "" {
		err = fmt.Errorf("%q is empty", path)
	}
	return secret, err
}

// request is what the login wants: its path and what is sent there.
func (a *Auth) request() (path string, body map[string]any, err error) {
	mount := cmp.Or(strings.Trim(a.Mount, "/"), a.Type)
	if mount == "app-role" {
		mount = "approle"
	}
	path = "auth/" + mount + "/login"
	switch a.Type {
	case "app-role":
		return path, map[string]any{"role_id": a.RoleID, "secret_id": a.SecretID}, nil
	case "app-id":
		return path, map[string]any{"app_id": a.AppID, "user_id": a.UserID}, nil
	case "github":
		token, err := a.token()
		return path, map[string]any{"token": token}, err
	case "userpass":
		return path + "/" + a.Username, map[string]any{"password": a.Password}, nil
	case "kubernetes":
		jwt, err := secretFile(cmp.Or(a.JWTFile, jwtFile))
		return path, map[string]any{"role": a.RoleID, "jwt": jwt}, err
	}
	return path, map[string]any{}, nil
}

// A session is the token that Vault gave.
type session struct {
	token     string // empty: there is none
	renewable bool
	renew     time.Time     // when it is to be renewed; zero: never
	first     time.Duration // how long it was to live at first
}

// ensure returns a token, and logs in where there is none.
func (s *Store) ensure(ctx context.Context) (token string, err error) {
	s.login.Lock()
	defer s.login.Unlock()
	if s.token == "" {
		err = s.logIn(ctx)
	}
	return s.token, err
}

// refused logs in again, because Vault does not take token any more.
func (s *Store) refused(ctx context.Context, token string) error {
	s.login.Lock()
	defer s.login.Unlock()
	if s.token != token {
		return nil // another watch did
	}
	s.token = ""
	return s.logIn(ctx)
}

// logIn is used with login held.
func (s *Store) logIn(ctx context.Context) error {
	err := s.do(ctx, func(ctx context.Context, c *api.Client) error {
		auth, err := s.auth.logIn(ctx, c)
		if err != nil {
			return err
		}
		s.take(auth)
		s.first = time.Duration(auth.LeaseDuration) * time.Second
		return nil
	})
	if err != nil {
		return fmt.Errorf("login %s: %w", s.auth.Type, err)
	}
	return nil
}

// take is used with login held.
func (s *Store) take(auth *api.SecretAuth) {
	ttl := time.Duration(auth.LeaseDuration) * time.Second
	s.token, s.renewable, s.renew = auth.ClientToken, auth.Renewable, time.Time{}
	if ttl > 0 {
		s.renew = time.Now().Add(ttl * 2 / 3)
	}
	for _, n := range s.nodes {
		n.client.SetToken(s.token)
	}
}

// logIn asks one server for a token. One that is given is looked up, which is an
// error where it is none.
func (a *Auth) logIn(ctx context.Context, c *api.Client) (*api.SecretAuth, error) {
	c, err := c.Clone()
	if err != nil {
		return nil, err
	}
	c.ClearToken() // it takes VAULT_TOKEN by itself
	if a.Type == "token" {
		token, err := a.token()
		if err != nil {
			return nil, err
		}
		c.SetToken(token)
		found, err := c.Auth().Token().LookupSelfWithContext(ctx)
		if err != nil {
			return nil, err
		}
		ttl, err := found.TokenTTL()
		if err != nil {
			return nil, err
		}
		renewable, err := found.TokenIsRenewable()
		return &api.SecretAuth{ClientToken: token, LeaseDuration: int(ttl / time.Second), Renewable: renewable}, err
	}
	path, body, err := a.request()
	if err != nil {
		return nil, err
	}
	secret, err := c.Logical().WriteWithContext(ctx, path, body)
	switch {
	case err != nil:
		return nil, err
	case secret == nil || secret.Auth == nil:
		return nil, errors.New("no token in the answer")
	}
	return secret.Auth, nil
}

// keep renews the token before it ends, until ctx does. Its failures are seen by
// who reads with the token.
func (s *Store) keep(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.renewal(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// renewal renews the token if it is time to. One that lives on for less than half
// as long as at first is near its last end: then another login is made, where one
// can be.
func (s *Store) renewal(ctx context.Context) {
	s.login.Lock()
	defer s.login.Unlock()
	if s.token == "" || s.renew.IsZero() || time.Now().Before(s.renew) {
		return
	}
	if s.renewable {
		err := s.do(ctx, func(ctx context.Context, c *api.Client) error {
			secret, err := c.Auth().Token().RenewSelfWithContext(ctx, 0)
			if err == nil && (secret == nil || secret.Auth == nil) {
				err = errors.New("no token in the answer")
			}
			if err == nil {
				s.take(secret.Auth)
			}
			return err
		})
		only := s.auth.Type == "token" && s.auth.TokenFile == ""
		if err == nil && (only || time.Until(s.renew) >= s.first/3) {
			return
		}
		if err != nil && status(err) != http.StatusForbidden && status(err) != http.StatusBadRequest {
			s.renew = time.Now().Add(time.Second) // Vault is away: again
			return
		}
	}
	if s.auth.Type == "token" && s.auth.TokenFile == "" {
		s.renew = time.Time{} // there is no other
		return
	}
	if err := s.logIn(ctx); err != nil {
		s.log.Warn("no new token yet", "store", "vault", "err", err)
		s.renew = time.Now().Add(max(time.Second, s.first/10))
	}
}
