package admin

import (
	"log/slog"
	"testing"
	"time"

	"muster/discovery"
)

func TestNotesOfTheStore(t *testing.T) {
	fresh := discovery.Status{Ready: true, Origin: discovery.FromStore, Revision: 7}
	with := func(change func(*discovery.Status)) discovery.Status {
		s := fresh
		change(&s)
		return s
	}
	tests := []struct {
		name   string
		status discovery.Status
		level  slog.Level
		text   string // "": no note
	}{
		{"fresh", fresh, 0, ""},
		{
			"disk", with(func(s *discovery.Status) { s.Origin, s.Stale, s.Err = discovery.FromDisk, true, "refused" }), slog.LevelError,
			"The store has not answered yet. What this balancer knew 1 min 30 s ago, revision 7, is served from its disk: refused",
		},
		{"held", with(func(s *discovery.Status) {
			s.Protection = discovery.Protection{Held: 3, Services: []string{"api", "web"}, Since: time.Now()}
		}), slog.LevelError, "Many endpoints expired at once: 3 of api, web stay while they answer their check"},
		{"one held", with(func(s *discovery.Status) {
			s.Protection = discovery.Protection{Held: 1, Services: []string{"web"}, Since: time.Now()}
		}), slog.LevelError, "One endpoint of web expired and stays while it answers its check"},
		{"many held", with(func(s *discovery.Status) {
			s.Protection = discovery.Protection{Held: 70, Services: []string{"a", "b", "c", "d", "e", "f", "g"}, Since: time.Now()}
		}), slog.LevelError, "Many endpoints expired at once: 70 of a, b, c, d, e and 2 more services stay while they answer their check"},
		{
			"off", with(func(s *discovery.Status) { s.Protection.Off = true }), slog.LevelWarn,
			"The protection against mass expiry is off: /muster/protect says so",
		},
	}
	for _, test := range tests {
		notes := (&Source{Status: test.status, Age: 90}).notes()
		switch {
		case test.text == "" && len(notes) == 0:
		case len(notes) != 1 || notes[0].Text != test.text || notes[0].Level != test.level:
			t.Errorf("%s: got %+v, want one at %v: %s", test.name, notes, test.level, test.text)
		}
	}
}
