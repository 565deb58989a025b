package docker

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"

	"muster/catalog"
)

// registrator reads what was written for registrator: SERVICE_NAME and the like
// in the environment, or as labels, which win over it; SERVICE_8080_NAME is for
// the port 8080 and wins over SERVICE_NAME. Where a name is for several ports, the
// port goes behind it: web-80 and web-443. Only ports that have a name are taken.
func registrator(c *container.Config, ports []uint16) (wishes []wish, err error) {
	for _, port := range ports {
		said, own := metadata(c, port)
		if said["name"] == "" || said["ignore"] != "" {
			continue
		}
		w := wish{service: said["name"], id: said["id"], port: port, Announcement: catalog.Announcement{Weight: catalog.DefaultWeight}}
		if len(ports) > 1 && !own["name"] {
			w.service += "-" + strconv.Itoa(int(port))
		}
		for _, name := range slices.Sorted(maps.Keys(said)) {
			if err := w.setForeign(name, said[name]); err != nil {
				return nil, fmt.Errorf("SERVICE_%s: %w", strings.ToUpper(name), err)
			}
		}
		w.declare()
		wishes = append(wishes, w)
	}
	return wishes, nil
}

// metadata is what SERVICE_X says of a port, by x in lower case, and which of it
// is for that port only.
func metadata(c *container.Config, port uint16) (said map[string]string, own map[string]bool) {
	said, own = make(map[string]string), make(map[string]bool)
	take := func(name, value string) {
		name, ok := strings.CutPrefix(name, "SERVICE_")
		if !ok || name == "" {
			return
		}
		name = strings.ToLower(name)
		head, rest, cut := strings.Cut(name, "_")
		if n, err := strconv.Atoi(head); err == nil && cut {
			if n == int(port) && rest != "" {
				said[rest], own[rest] = value, true
			}
		} else if !own[name] {
			said[name] = value
		}
	}
	for _, v := range c.Env {
		name, value, _ := strings.Cut(v, "=")
		take(name, value)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Labels)) {
		take(name, c.Labels[name])
	}
	return said, own
}

// setForeign takes one of registrator's settings. What is none of them is kept as
// a label, as registrator does.
func (w *wish) setForeign(name, value string) (err error) {
	switch name {
	case "name", "id", "ignore": // they are known
	case "tags":
		for tag := range strings.SplitSeq(value, ",") {
			if tag = strings.TrimSpace(tag); tag != "" {
				w.Tags = append(w.Tags, tag)
			}
		}
	case "weight":
		return w.set("weight", value)
	case "check_http":
		w.check, err = parseCheck("http:" + value)
	case "check_https":
		w.check, err = parseCheck("https:" + value)
	case "check_tcp":
		if value == "true" && w.check == "" {
			w.check = "tcp:"
		}
	case "check_interval":
		w.interval, err = parseDuration(value)
	case "check_timeout":
		w.timeout, err = parseDuration(value)
	default:
		return w.set("label."+name, value)
	}
	return err
}
