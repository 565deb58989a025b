package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	token string    // empty: there is none
	renew time.Time // when it is to be renewed; zero: never
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
		return nil
	})
	if err != nil {
		return fmt.Errorf("login %s: %w", s.auth.Type, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.leased) // they end with the token that made them
	return nil
}

// take makes auth the session. Clients have a token already, if VAULT_TOKEN is set:
// the login's counts. It is used with login held.
func (s *Store) take(auth *api.SecretAuth) {
	s.session = session{token: auth.ClientToken}
	if auth.Renewable && auth.LeaseDuration > 0 {
		s.renew = time.Now().Add(time.Duration(auth.LeaseDuration) * time.Second * 2 / 3)
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

// renewal renews the token if it is time to. One that can't be renewed, or not any
// more, is used until Vault refuses it.
func (s *Store) renewal(ctx context.Context) {
	s.login.Lock()
	defer s.login.Unlock()
	if s.token == "" || s.renew.IsZero() || time.Now().Before(s.renew) {
		return
	}
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
	switch {
	case err == nil:
	case elsewhere(err):
		s.renew = time.Now().Add(time.Second) // Vault is away: again
	default:
		s.renew = time.Time{}
	}
}
