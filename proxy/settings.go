package proxy

import (
	"fmt"
	"strings"
	"time"
)

// A Setting is one that is not as it is by default.
type Setting struct {
	Value  string `json:"value"`
	Source string `json:"source"` // such as "muster.toml:3"
}

// A setting is what a plan says of one, by its name in muster.toml.
type setting struct {
	name  string
	value any
}

// set are those that say something else than the default, from is where each
// came from. It is nil where there is none.
func set(settings []setting, from func(name string) string) (all map[string]Setting) {
	for _, s := range settings {
		text := ""
		switch v := s.value.(type) {
		case time.Duration:
			text = v.String()
			if v == 0 {
				continue
			}
		case int, int64:
			text = fmt.Sprint(v)
			switch {
			case text == "0":
				continue
			case text[0] == '-':
				text = "off"
			}
		case bool:
			text = fmt.Sprint(v)
			if !v {
				continue
			}
		case []string:
			text = strings.Join(v, ", ")
			if v == nil {
				continue
			}
		default:
			if text = fmt.Sprint(v); text == "" {
				continue
			}
		}
		if all == nil {
			all = make(map[string]Setting)
		}
		all[s.name] = Setting{text, from(s.name)}
	}
	return all
}

// settings are those that the service has set.
func (s *Service) settings() map[string]Setting {
	if s.ServiceSettings == (ServiceSettings{}) {
		return nil
	}
	return set([]setting{
		{"timeout.connect", s.Timeout.Connect},
		{"timeout.response", s.Timeout.Response},
		{"timeout.stream", s.Timeout.Stream},
		{"timeout.tunnel", s.Timeout.Tunnel},
		{"limits.body", s.Limits.Body},
		{"limits.response_head", s.Limits.ResponseHead},
		{"max_conns", s.MaxConns},
		{"queue.size", s.Queue.Size},
		{"queue.timeout", s.Queue.Timeout},
		{"host", s.Host},
	}, func(name string) string { return s.Sources[name] })
}

// settings are those that the listener has set.
func (l *Listener) settings() map[string]Setting {
	var trusted []string
	for _, p := range l.Trusted {
		trusted = append(trusted, p.String())
	}
	dots := ""
	if l.Dots {
		dots = "pass"
	}
	return set([]setting{
		{"timeout.header", l.Timeout.Header},
		{"timeout.body", l.Timeout.Body},
		{"timeout.idle", l.Timeout.Idle},
		{"timeout.write", l.Timeout.Write},
		{"timeout.expect", l.Timeout.Expect},
		{"timeout.half_close", l.Timeout.HalfClose},
		{"limits.head", l.Limits.Head},
		{"limits.target", l.Limits.Target},
		{"limits.fields", l.Limits.Fields},
		{"limits.requests", l.Limits.Requests},
		{"limits.min_rate", l.Limits.MinRate},
		{"limits.connections", l.Limits.Connections},
		{"limits.per_client", l.Limits.PerClient},
		{"trusted", trusted},
		{"forwarded", l.Forwarded},
		{"via", l.Via},
		{"path.dots", dots},
		{"headers.underscores", l.Underscores},
		{"headers.drop", l.Drop},
		{"methods.trace", l.Trace},
		{"proxy_status", l.ProxyStatus},
	}, func(string) string { return l.Source })
}
