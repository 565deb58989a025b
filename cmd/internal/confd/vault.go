package confd

import (
	"errors"
	"fmt"
	"log/slog"
)

// checkVault reports what vault's login lacks, in the original's words and
// before anything is asked of vault.
func checkVault(o *options, log *slog.Logger) error {
	if o.AuthType == "" {
		return errors.New("you have to set the auth type when using the vault backend")
	}
	log.Info("Vault authentication backend set to " + o.AuthType)
	type option struct{ name, value string }
	var wanted []option
	switch o.AuthType {
	case "token", "github":
		wanted = []option{{"token", o.AuthToken}}
	case "app-id":
		wanted = []option{{"app-id", o.AppID}, {"user-id", o.UserID}}
	case "app-role":
		wanted = []option{{"role-id", o.RoleID}, {"secret-id", o.SecretID}}
	case "userpass":
		wanted = []option{{"username", o.Username}, {"password", o.Password}}
	case "kubernetes":
		wanted = []option{{"role-id", o.RoleID}}
	case "cert":
	default:
		//lint:ignore ST1005 scripts know confd's words
		return errors.New("Unable to authenticate")
	}
	for _, w := range wanted {
		if w.value == "" {
			return fmt.Errorf("%s is missing from configuration", w.name)
		}
	}
	return nil
}
