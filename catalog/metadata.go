package catalog

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Metadata is the JSON that goes under /services.meta/NAME/ID.
func (a Announcement) Metadata() string {
	a.V = 1
	text, err := json.Marshal(a)
	if err != nil {
		panic("BUG: an announcement is always JSON: " + err.Error())
	}
	return string(text)
}

// ParseMetadata reads the JSON of /services.meta/NAME/ID. Addr may be missing.
func ParseMetadata(text string) (Announcement, error) { return parseMetadata(text, new(Announcement)) }

// parseMetadata is ParseMetadata. What has to be allocated, and like says too, is
// shared with that.
func parseMetadata(text string, like *Announcement) (Announcement, error) {
	a, ok := scanMetadata(text, like)
	if !ok {
		var err error
		if a, err = decodeMetadata(text); err != nil {
			return Announcement{}, err
		}
		a.share(like)
	}
	return a, a.check(like)
}

func decodeMetadata(text string) (Announcement, error) {
	a := Announcement{Weight: DefaultWeight}
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return Announcement{}, fmt.Errorf("metadata: %w", jsonError(err))
	}
	return a, nil
}

// share makes a use what like has where both say the same, so that what all
// endpoints of a service say is in memory once.
func (a *Announcement) share(like *Announcement) {
	if slices.Equal(a.Tags, like.Tags) {
		a.Tags = like.Tags
	}
	if slices.Equal(a.Routes, like.Routes) {
		a.Routes = like.Routes
	}
	if maps.Equal(a.Labels, like.Labels) {
		a.Labels = like.Labels
	}
	if a.Health != nil && like.Health != nil && *a.Health == *like.Health {
		a.Health = like.Health
	}
}

// scanMetadata reads metadata as sidekicks write it, in an eighth of the time that
// encoding/json needs, which is a third of a second for 100,000 endpoints at every
// start. It makes the same of a text as that would, or it leaves it to that: an
// escape, a letter beyond ASCII, a name it does not know, one that comes twice,
// null, a number that is no plain whole one, or what is wrong. The strings are part
// of text.
func scanMetadata(text string, like *Announcement) (a Announcement, ok bool) {
	a.Weight = DefaultWeight
	s := scanner{text}
	ok = s.object(func(name string) (ok bool) {
		switch name {
		case "v":
			a.V, ok = s.number()
		case "addr":
			a.Addr, ok = s.string()
		case "proto":
			a.Proto, ok = s.string()
		case "weight":
			a.Weight, ok = s.number()
		case "zone":
			a.Zone, ok = s.string()
		case "version":
			a.Version, ok = s.string()
		case "tags":
			a.Tags, ok = s.strings(like.Tags)
		case "labels":
			a.Labels, ok = s.labels(like.Labels)
		case "routes":
			a.Routes, ok = s.strings(like.Routes)
		case "health":
			a.Health, ok = s.health(like.Health)
		case "state":
			var state string
			state, ok = s.string()
			a.State = State(state)
		case "started":
			a.Started, ok = s.time(like.Started)
		case "host":
			a.Host, ok = s.string()
		}
		return ok
	})
	return a, ok && s.end()
}

// A scanner holds what is left of a JSON text. Its methods return false for what
// scanMetadata leaves to encoding/json.
type scanner struct{ rest string }

// space goes over white space.
func (s *scanner) space() {
	if len(s.rest) > 0 && s.rest[0] > ' ' {
		return
	}
	for len(s.rest) > 0 && (s.rest[0] == ' ' || s.rest[0] == '\n' || s.rest[0] == '\t' || s.rest[0] == '\r') {
		s.rest = s.rest[1:]
	}
}

func (s *scanner) end() bool {
	s.space()
	return s.rest == ""
}

// take goes over c, if that is next.
func (s *scanner) take(c byte) bool {
	if len(s.rest) > 0 && s.rest[0] != c {
		s.space()
	}
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// object calls field after each name.
func (s *scanner) object(field func(name string) bool) bool {
	var names [16]string
	seen := names[:0]
	if !s.take('{') {
		return false
	}
	for first := true; !s.take('}'); first = false {
		if !first && !s.take(',') {
			return false
		}
		name, ok := s.string()
		if !ok || len(seen) == len(names) || slices.Contains(seen, name) || !s.take(':') || !field(name) {
			return false
		}
		seen = append(seen, name)
	}
	return true
}

func (s *scanner) string() (string, bool) {
	if !s.take('"') {
		return "", false
	}
	rest := s.rest
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '"':
			s.rest = rest[i+1:]
			return rest[:i], true
		case c < ' ' || c > '~' || c == '\\':
			return "", false
		}
	}
	return "", false
}

// number is a whole one that every int can hold.
func (s *scanner) number() (n int, ok bool) {
	s.space()
	i := 0
	for ; i < len(s.rest) && '0' <= s.rest[i] && s.rest[i] <= '9'; i++ {
		if i == 9 || i == 1 && n == 0 {
			return 0, false
		}
		n = 10*n + int(s.rest[i]-'0')
	}
	s.rest = s.rest[i:]
	return n, i > 0
}

func (s *scanner) bool() (b, ok bool) {
	s.space()
	if s.rest, ok = strings.CutPrefix(s.rest, "true"); ok {
		return true, true
	}
	s.rest, ok = strings.CutPrefix(s.rest, "false")
	return false, ok
}

// strings is an array of strings; like where that is the same.
func (s *scanner) strings(like []string) ([]string, bool) {
	var few [8]string
	all := few[:0]
	if !s.take('[') {
		return nil, false
	}
	for first := true; !s.take(']'); first = false {
		if !first && !s.take(',') {
			return nil, false
		}
		text, ok := s.string()
		if !ok {
			return nil, false
		}
		all = append(all, text)
	}
	if like != nil && slices.Equal(all, like) {
		return like, true
	}
	return append(make([]string, 0, len(all)), all...), true
}

func (s *scanner) labels(like map[string]string) (map[string]string, bool) {
	all := make(map[string]string)
	ok := s.object(func(name string) (ok bool) {
		all[name], ok = s.string()
		return ok
	})
	if like != nil && maps.Equal(all, like) {
		return like, ok
	}
	return all, ok
}

func (s *scanner) health(like *Health) (*Health, bool) {
	var h Health
	ok := s.object(func(name string) (ok bool) {
		switch name {
		case "http":
			h.HTTP, ok = s.string()
		case "tcp":
			h.TCP, ok = s.bool()
		case "interval":
			h.Interval, ok = s.duration()
		case "timeout":
			h.Timeout, ok = s.duration()
		case "rise":
			h.Rise, ok = s.number()
		case "fall":
			h.Fall, ok = s.number()
		}
		return ok
	})
	if like != nil && h == *like {
		return like, ok
	}
	return new(h), ok
}

func (s *scanner) duration() (d Duration, ok bool) {
	text, ok := s.string()
	v, err := time.ParseDuration(text)
	return Duration(v), ok && err == nil && v >= 0
}

// time is one of UTC. Others, and forms that time.Parse takes and JSON does not,
// are left alone.
func (s *scanner) time(like *time.Time) (*time.Time, bool) {
	text, ok := s.string()
	if !ok || len(text) < len("2006-01-02T15:04:05Z") || text[13] != ':' || text[19] == ',' || text[len(text)-1] != 'Z' {
		return nil, false
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, false
	}
	if like != nil && t == *like {
		return like, true
	}
	return new(t), true
}
