package sidekick

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode"
)

// parseDocker makes the check of a container: it passes while the container runs
// and, where it has a HEALTHCHECK, is healthy. It asks the engine by its socket.
func parseDocker(container, engine string) (func(context.Context) error, error) {
	if strings.ContainsFunc(container, func(r rune) bool { return r == '/' || unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return nil, errors.New("want docker:CONTAINER, its name or ID")
	}
	socket, ok := strings.CutPrefix(engine, "unix://")
	if !ok || socket == "" {
		return nil, fmt.Errorf("docker host %q: want unix://PATH", engine)
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, // an engine that was restarted is asked anew
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	where := "http://docker/containers/" + url.PathEscape(container) + "/json"
	return func(ctx context.Context) error {
		c, err := inspect(ctx, client, where)
		if err != nil {
			return err
		}
		return c.healthy()
	}, nil
}

// A container is what the engine says of one, as far as the check cares.
type container struct {
	State struct {
		Status          string // running, exited, paused, …
		Running, Paused bool
		Restarting      bool // it waits to be started again, and counts as running
		ExitCode        int
		Health          *struct {
			Status string // starting, healthy, unhealthy, or none
			Log    []struct{ Output string }
		}
	}
}

func inspect(ctx context.Context, client *http.Client, where string) (c container, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return c, err
	}
	resp, err := client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return c, fmt.Errorf("docker: %w", err)
	}
	defer resp.Body.Close()
	body := http.MaxBytesReader(nil, resp.Body, 4<<20)
	if resp.StatusCode != http.StatusOK {
		var said struct{ Message string }
		_ = json.NewDecoder(body).Decode(&said)
		return c, fmt.Errorf("docker: got status %d: %q", resp.StatusCode, said.Message)
	}
	if err := json.NewDecoder(body).Decode(&c); err != nil {
		return c, fmt.Errorf("docker: %w", err)
	}
	return c, nil
}

func (c container) healthy() error {
	s := c.State
	switch {
	case !s.Running, s.Restarting:
		return fmt.Errorf("the container is %s (exit code %d): want running", s.Status, s.ExitCode)
	case s.Paused:
		return errors.New("the container is paused: want running")
	case s.Health == nil || s.Health.Status == "none" || s.Health.Status == "healthy":
		return nil
	}
	if n := len(s.Health.Log); n > 0 {
		if said := strings.TrimSpace(s.Health.Log[n-1].Output); said != "" {
			return fmt.Errorf("the container is %s: %q", s.Health.Status, said[max(0, len(said)-maxOutput):])
		}
	}
	return fmt.Errorf("the container is %s: want healthy", s.Health.Status)
}
