package sidekick

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// parseSystemd makes the check of a unit: it passes while systemd has it active,
// or active and reloading. It asks by systemctl, which speaks to systemd's own
// socket where there is no D-Bus.
func parseSystemd(unit string, c *children) (func(context.Context) error, error) {
	if strings.ContainsFunc(unit, func(r rune) bool { return r == '/' || unicode.IsSpace(r) }) {
		return nil, errors.New("want systemd:UNIT, such as systemd:web@8080.service")
	}
	return func(ctx context.Context) error {
		out, err := c.run(ctx, "systemctl", "show", "--property=LoadState,ActiveState,SubState", "--", unit)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("systemctl: %w: %q", err, out)
		}
		return unitState(out)
	}, nil
}

// unitState judges what systemctl show said.
func unitState(text string) error {
	props := make(map[string]string)
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		props[name] = value
	}
	switch load, active := props["LoadState"], props["ActiveState"]; {
	case active == "active" || active == "reloading":
		return nil
	case load != "loaded" && load != "":
		return fmt.Errorf("the unit is %s", load)
	case active == "":
		return fmt.Errorf("systemctl said %q: want ActiveState", text)
	default:
		return fmt.Errorf("the unit is %s (%s): want active", active, props["SubState"])
	}
}
