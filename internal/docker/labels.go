package docker

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"muster/catalog"
	"muster/internal/near"
)

// A wish is what a container says of one of its ports.
type wish struct {
	service, id, check, network string
	port                        uint16
	interval, timeout           time.Duration // of checks and probes; zero: not said
	catalog.Announcement                      // Weight, Zone, Tags, Labels, Routes and Health
}

// prefix begins the names of our labels. Behind it stands the name of a setting,
// or a port of the container, a dot and that name, which is for that port only.
const prefix = "muster."

// settings are the names there are, beside label.KEY.
var settings = []string{
	"service", "port", "id", "route", "tag", "weight", "zone", "health", "interval", "timeout", "network",
}

// wishesOf is what the labels of a container wish for, if any of them is ours, or
// else what its environment and labels say to registrator.
func wishesOf(c *container.InspectResponse) ([]wish, error) {
	for label := range c.Config.Labels {
		if strings.HasPrefix(label, prefix) {
			return ours(c.Config.Labels, portsOf(c))
		}
	}
	return registrator(c.Config, portsOf(c))
}

// portsOf are the TCP ports of a container: those that are published or, where
// none is, those that its image or its start has exposed.
func portsOf(c *container.InspectResponse) []uint16 {
	var published, exposed []uint16
	for port := range c.Config.ExposedPorts {
		if port.Proto() == network.TCP {
			exposed = append(exposed, port.Num())
		}
	}
	if c.NetworkSettings != nil {
		for port, bound := range c.NetworkSettings.Ports {
			if port.Proto() == network.TCP && len(bound) > 0 {
				published = append(published, port.Num())
			}
		}
	}
	if len(published) > 0 {
		exposed = published
	}
	slices.Sort(exposed)
	return slices.Compact(exposed)
}

// ours reads the labels that begin with our prefix.
func ours(labels map[string]string, ports []uint16) (wishes []wish, err error) {
	every, by, err := split(labels)
	if err != nil {
		return nil, err
	}
	named := slices.Sorted(maps.Keys(by))
	add := func(service string, port uint16) error {
		w := wish{service: service, port: port, Announcement: catalog.Announcement{Weight: catalog.DefaultWeight}}
		for _, from := range []map[string]string{every, by[port]} {
			for _, name := range slices.Sorted(maps.Keys(from)) {
				if err := w.set(name, from[name]); err != nil {
					return fmt.Errorf("label %q: %w", labelOf(name, port, by), err)
				}
			}
		}
		w.declare()
		wishes = append(wishes, w)
		return nil
	}
	for _, port := range named {
		if service := by[port]["service"]; service != "" {
			if err := add(service, port); err != nil {
				return nil, err
			}
			ports = slices.DeleteFunc(ports, func(p uint16) bool { return p == port })
		}
	}
	if service := every["service"]; service != "" {
		port, err := portFor(every["port"], ports)
		if err != nil {
			return nil, err
		}
		if by[port]["service"] != "" {
			return nil, fmt.Errorf("port %d: labels %q and %q give it two services", port, prefix+"service", labelOf("service", port, by))
		}
		if err := add(service, port); err != nil {
			return nil, err
		}
	}
	if len(wishes) == 0 {
		return nil, fmt.Errorf("no label %q says which service it is", prefix+"service")
	}
	for _, port := range named {
		if !slices.ContainsFunc(wishes, func(w wish) bool { return w.port == port }) {
			return nil, fmt.Errorf("label %q: no service is announced at port %d", labelOf(slices.Min(slices.Collect(maps.Keys(by[port]))), port, by), port)
		}
	}
	return wishes, nil
}

// split sorts our labels: those for every port, and those for one.
func split(labels map[string]string) (every map[string]string, by map[uint16]map[string]string, err error) {
	every, by = make(map[string]string), make(map[uint16]map[string]string)
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		name, ok := strings.CutPrefix(label, prefix)
		if !ok {
			continue
		}
		into := every
		if head, rest, ok := strings.Cut(name, "."); ok && head != "" && '0' <= head[0] && head[0] <= '9' {
			port, err := parsePort(head)
			if err != nil {
				return nil, nil, fmt.Errorf("label %q: %w", label, err)
			}
			if by[port] == nil {
				by[port] = make(map[string]string)
			}
			name, into = rest, by[port]
			if name == "port" {
				return nil, nil, fmt.Errorf("label %q: the port is in its name", label)
			}
		}
		if !slices.Contains(settings, name) && (!strings.HasPrefix(name, "label.") || name == "label.") {
			hint := ""
			if miss := near.Miss(name, settings); miss != "" {
				hint = fmt.Sprintf(" (did you mean %q?)", strings.TrimSuffix(label, name)+miss)
			}
			return nil, nil, fmt.Errorf("unknown label %q%s", label, hint)
		}
		into[name] = labels[label]
	}
	return every, by, nil
}

// labelOf is the label that sets name for port.
func labelOf(name string, port uint16, by map[uint16]map[string]string) string {
	if _, ok := by[port][name]; ok {
		return fmt.Sprintf("%s%d.%s", prefix, port, name)
	}
	return prefix + name
}

// portFor is the port that text names, or the only one there is.
func portFor(text string, ports []uint16) (uint16, error) {
	if text != "" {
		port, err := parsePort(strings.TrimSuffix(text, "/tcp"))
		if err != nil {
			return 0, fmt.Errorf("label %q: %w", prefix+"port", err)
		}
		return port, nil
	}
	switch len(ports) {
	case 0:
		return 0, fmt.Errorf("it exposes no TCP port: say by label %q which one it is", prefix+"port")
	case 1:
		return ports[0], nil
	}
	texts := make([]string, len(ports))
	for i, p := range ports {
		texts[i] = strconv.Itoa(int(p))
	}
	return 0, fmt.Errorf("it has the ports %s: say by label %q which one it is", strings.Join(texts, ", "), prefix+"port")
}

// set takes one setting.
func (w *wish) set(name, value string) (err error) {
	switch name {
	case "service", "port": // they are known
	case "id":
		w.id = value
	case "network":
		w.network = value
	case "zone":
		w.Zone = value
	case "tag":
		w.Tags = list(value)
	case "route":
		w.Routes = list(value)
		for _, route := range w.Routes {
			if _, err := catalog.ParseRoute(route); err != nil {
				return err
			}
		}
	case "weight":
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil {
			return fmt.Errorf("%q: want 0 to 65535", value)
		}
		w.Weight = int(n)
	case "health":
		w.check, err = parseCheck(value)
	case "interval":
		w.interval, err = parseDuration(value)
	case "timeout":
		w.timeout, err = parseDuration(value)
	default: // label.KEY
		if w.Labels == nil {
			w.Labels = make(map[string]string)
		}
		w.Labels[strings.TrimPrefix(name, "label.")] = value
	}
	return err
}

// list is what stands between commas or spaces.
func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

// parseCheck takes those of the sidekick's checks that look from outside: images
// bring labels too, and those may not run commands here.
func parseCheck(spec string) (string, error) {
	kind, rest, ok := strings.Cut(spec, ":")
	switch {
	case spec == "none", spec == "tcp:", ok && kind == "grpc":
		return spec, nil
	case ok && (kind == "http" || kind == "https") && strings.HasPrefix(rest, "/"):
		return spec, nil
	}
	return "", fmt.Errorf("%q: want tcp:, http:/PATH, https:/PATH, grpc:SERVICE or none", spec)
}

func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf(`%q: want a duration above zero, such as "2s"`, text)
	}
	return d, nil
}

// declare says to balancers how to probe, where they can: they connect, or get a
// path.
func (w *wish) declare() {
	path, http := strings.CutPrefix(w.check, "http:")
	if http = http && !strings.ContainsFunc(path, unicode.IsSpace); !http {
		path = ""
	}
	if http || w.check == "tcp:" {
		w.Health = &catalog.Health{
			HTTP: path, TCP: !http,
			Interval: catalog.Duration(w.interval), Timeout: catalog.Duration(w.timeout),
		}
	}
}

// checkSegment reports whether text can be one segment of a key.
func checkSegment(text string) error {
	bad := func(r rune) bool { return r == '/' || unicode.IsSpace(r) || unicode.IsControl(r) }
	if text == "" || len(text) > 255 || !utf8.ValidString(text) || strings.ContainsFunc(text, bad) {
		return fmt.Errorf("service or id %q: want 1 to 255 bytes without a slash or a space", text)
	}
	return nil
}
