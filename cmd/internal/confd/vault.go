package confd

import (
	"errors"
	"log/slog"
	"slices"

	"muster/backends/vault"
)

// checkVault reports a login that is none, in the original's words. What a login
// lacks says the store.
func checkVault(o *options, log *slog.Logger) error {
	if o.AuthType == "" {
		return errors.New("you have to set the auth type when using the vault backend")
	}
	log.Info("Vault authentication backend set to " + o.AuthType)
	if !slices.Contains(vault.AuthTypes, o.AuthType) {
		//lint:ignore ST1005 scripts know confd's words
		return errors.New("Unable to authenticate")
	}
	return nil
}
