package vault_test

import (
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"muster/backends/vault"
	"muster/internal/vaulttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// often is how often tests read.
const often = 50 * time.Millisecond

// open makes a store that logs in as auth says.
func open(t testing.TB, addr string, auth vault.Auth, log *slog.Logger) *vault.Store {
	t.Helper()
	s, err := vault.New(vault.Config{Nodes: []string{addr}, Auth: auth, Interval: often, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func root(s *vaulttest.Server) vault.Auth { return vault.Auth{Type: "token", Token: s.Root()} }

func value(text string) map[string]any { return map[string]any{"value": text} }
