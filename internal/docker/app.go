package docker

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"muster/catalog"
)

// An App is what one container announces of one of its ports.
type App struct {
	Service, ID string
	Container   string // its name

	// Check is how a sidekick shall check it, one of its specs: tcp:, http:,
	// https:, grpc: or none. Empty means that the container does not say.
	Check             string
	Interval, Timeout time.Duration // of it; zero means that it does not say

	catalog.Announcement
}

// An origin is where containers run and how they are reached.
type origin struct {
	Config
	machine string // its name
}

// announced is what a container announces: nothing while it must get no requests and
// nobody waits for them to end. An error means that its labels or its ports are
// wrong. told is when it was told to end.
func (o origin) announced(c *container.InspectResponse, told time.Time) ([]App, error) {
	if c.Config == nil || c.State == nil {
		return nil, errors.New("the engine says nothing of its configuration or state")
	}
	state := stateOf(c.State, told)
	if state == "" {
		return nil, nil
	}
	wishes, err := wishesOf(c)
	if err != nil {
		return nil, err
	}
	name := strings.TrimPrefix(c.Name, "/")
	apps := make([]App, 0, len(wishes))
	seen := make(map[string]bool)
	for _, w := range wishes {
		a := App{
			Service: w.service, ID: w.id, Container: name,
			Check: w.check, Interval: w.interval, Timeout: w.timeout, Announcement: w.Announcement,
		}
		if a.ID == "" {
			a.ID = fmt.Sprintf("%s:%s:%d", o.machine, name, w.port)
		}
		for _, text := range []string{a.Service, a.ID} {
			if err := checkSegment(text); err != nil {
				return nil, err
			}
		}
		if key := a.Service + "/" + a.ID; seen[key] {
			return nil, fmt.Errorf("two of its ports are %s: give each its id", key)
		} else {
			seen[key] = true
		}
		if a.Addr, err = o.address(c, w); err != nil {
			return nil, err
		}
		if err := catalog.CheckAddr(a.Addr); err != nil {
			return nil, err
		}
		a.State, a.Host = state, o.machine
		if t := startedAt(c.State); !t.IsZero() {
			a.Started = &t
		}
		apps = append(apps, a)
	}
	return apps, nil
}

// stateOf is what there is to announce of a container; empty means nothing.
func stateOf(s *container.State, told time.Time) catalog.State {
	health := container.NoHealthcheck
	if s.Health != nil {
		health = s.Health.Status
	}
	switch {
	// One that waits for its restart is running too, as the engine has it.
	case !s.Running, s.Paused, s.Restarting, s.Dead, health == container.Unhealthy:
		return ""
	case told.After(startedAt(s)):
		return catalog.Draining
	case health == container.Starting:
		return catalog.Starting
	}
	return catalog.Up
}

func startedAt(s *container.State) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s.StartedAt)
	if err != nil || t.Year() < 1970 {
		return time.Time{}
	}
	return t
}

// endSignals are what a container may be told to end with, by number and name.
var endSignals = map[string]string{
	"1": "HUP", "2": "INT", "3": "QUIT", "6": "ABRT", "10": "USR1", "12": "USR2", "15": "TERM", "28": "WINCH", "37": "RTMIN+3",
}

// ends reports whether a signal, which the engine's events name by number, tells
// a container to end. TERM and INT do, and what docker stop sends to it.
func ends(signal, stopSignal string) bool {
	if signal == "15" || signal == "2" {
		return true
	}
	stop := strings.TrimPrefix(strings.ToUpper(stopSignal), "SIG")
	return stop != "" && (stop == signal || stop == endSignals[signal])
}

func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || text[0] == '+' {
		return 0, fmt.Errorf("%q: want a TCP port of the container, 1 to 65535", text)
	}
	return uint16(n), nil
}
