package sidekick

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"muster/internal/tomlfile"
)

// A File is what one file says of the apps to announce.
type File struct {
	Name string
	Apps []Config // none, where Err is not nil
	Err  error    // all that is wrong, a line each: "apps.toml:3: …"
}

// A HostFunc chooses the host of an addr that is :PORT, on the interface iface
// and within the network cidr, of which either or both may be empty.
type HostFunc func(iface, cidr string) (string, error)

// Load reads the [[announce]] tables of the file at path or, where that is a
// folder, of every .toml file in it. What a table does not say is as defaults
// has it. An error means that path can't be read; what is wrong with one file is
// in its Err.
func Load(path string, defaults Config, host HostFunc) ([]File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	names := []string{path}
	if info.IsDir() {
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		names = nil
		for _, e := range entries {
			if filepath.Ext(e.Name()) == ".toml" && !strings.HasPrefix(e.Name(), ".") {
				names = append(names, filepath.Join(path, e.Name()))
			}
		}
	}
	files := make([]File, 0, len(names))
	for _, name := range names {
		f := File{Name: name}
		var text []byte
		if text, f.Err = os.ReadFile(name); f.Err == nil {
			f.Apps, f.Err = parseFile(name, string(text), defaults, host)
		}
		files = append(files, f)
	}
	return files, nil
}

// An appTable is one [[announce]]. Its words are those of the flags.
type appTable struct {
	Name, Addr, ID, Prefix, Zone string
	Interface, CIDR              string
	DockerHost                   string `toml:"docker-host"`
	Health, Route, Tag           words
	Label                        map[string]string
	Interval, Timeout            duration
	StartPeriod                  period `toml:"start-period"`
	Drain                        period
	Rise, Fall, Weight           *int
}

// parseFile is Load of one file.
func parseFile(name, text string, defaults Config, host HostFunc) (apps []Config, err error) {
	var whole struct {
		Announce                         tomlfile.Tables
		Listener, Defaults, Log, Service tomlfile.Other // muster.toml is for the proxy too
	}
	file, err := tomlfile.Decode(name, text, &whole)
	if err != nil {
		return nil, err
	}
	wrong := file.Unknown()
	for _, part := range split(text, int(whole.Announce)) {
		var tables struct{ Announce []appTable }
		file, err := tomlfile.Decode(name, part, &tables)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		wrong = append(wrong, file.Unknown()...)
		for i, t := range tables.Announce {
			c, err := t.config(defaults, host)
			c.Source = fmt.Sprintf("%s:%d", name, file.TableLine("announce", i))
			if err != nil {
				wrong = append(wrong, fmt.Errorf("%s: [[announce]]: %w", c.Source, err))
			}
			apps = append(apps, c)
		}
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return apps, nil
}

// anyHeader is the line that begins a table, and appHeader one of [[announce]].
var (
	anyHeader = regexp.MustCompile(`^\s*\[\[?\s*["']?[A-Za-z]`)
	appHeader = regexp.MustCompile(`^\s*\[\[\s*announce\s*\]\]`)
	subHeader = regexp.MustCompile(`^\s*\[\s*announce\s*\.`)
)

// split returns text once for each of its n [[announce]] tables, with every other
// line empty: the decoder knows the lines of one table of a name only. Where it
// can't tell them apart, as in an inline array, it is text as it is.
func split(text string, n int) (parts []string) {
	lines := strings.SplitAfter(text, "\n")
	var begins []int
	for i, line := range lines {
		if appHeader.MatchString(line) {
			begins = append(begins, i)
		}
	}
	if len(begins) != n {
		return []string{text}
	}
	for _, begin := range begins {
		end := len(lines)
		if next := slices.IndexFunc(lines[begin+1:], func(line string) bool {
			return anyHeader.MatchString(line) && !subHeader.MatchString(line)
		}); next >= 0 {
			end = begin + 1 + next
		}
		parts = append(parts, strings.Repeat("\n", begin)+strings.Join(lines[begin:end], ""))
	}
	return parts
}

// config is what the table says, over defaults.
func (t appTable) config(defaults Config, host HostFunc) (Config, error) {
	c := defaults
	set := func(field *string, text string) {
		if text != "" {
			*field = text
		}
	}
	c.Service, c.Addr, c.ID = t.Name, t.Addr, t.ID
	set(&c.Prefix, t.Prefix)
	set(&c.Zone, t.Zone)
	set(&c.DockerHost, t.DockerHost)
	setList(&c.Checks, t.Health)
	setList(&c.Routes, t.Route)
	setList(&c.Tags, t.Tag)
	setTime(&c.Interval, t.Interval)
	setTime(&c.Timeout, t.Timeout)
	setTime(&c.StartPeriod, t.StartPeriod)
	setTime(&c.Drain, t.Drain)
	if t.Label != nil {
		c.Labels = t.Label
	}
	if err := t.numbers(&c); err != nil {
		return c, err
	}
	switch {
	case t.Name == "":
		return c, errors.New("name: want that of the service")
	case t.Addr == "":
		return c, errors.New("addr: want HOST:PORT, where others reach the app")
	case t.hostless():
		h, err := host(t.Interface, t.CIDR)
		if err != nil {
			return c, err
		}
		c.Addr = net.JoinHostPort(h, t.Addr[1:])
	case t.Interface != "" || t.CIDR != "":
		return c, fmt.Errorf("interface and cidr choose the host of addr = \":PORT\": %q has one", t.Addr)
	}
	return c, c.Wrong()
}

// hostless reports whether Addr is :PORT.
func (t appTable) hostless() bool {
	host, port, err := net.SplitHostPort(t.Addr)
	return err == nil && host == "" && port != ""
}

// numbers sets those of c. There zero is the default and negative is none.
func (t appTable) numbers(c *Config) error {
	if t.Rise != nil {
		c.Rise = *t.Rise
	}
	if t.Fall != nil {
		c.Fall = *t.Fall
	}
	if t.Rise != nil && *t.Rise < 1 || t.Fall != nil && *t.Fall < 1 {
		return errors.New("rise, fall: want 1 or more")
	}
	if t.Weight != nil {
		if *t.Weight < 0 {
			return fmt.Errorf("weight %d: want 0 to 65535", *t.Weight)
		}
		c.Weight = *t.Weight
		if c.Weight == 0 {
			c.Weight = -1
		}
	}
	return nil
}

func setList(field *[]string, list words) {
	if list != nil {
		*field = list
	}
}

func setTime[T ~int64](field *time.Duration, d T) {
	if d != 0 {
		*field = time.Duration(d)
	}
}

// The kinds of value that a table has. Each says what it wanted.

// words are one string or a list of them.
type words []string

func (w *words) UnmarshalTOML(data any) error {
	*w = words{}
	list, ok := data.([]any)
	if !ok {
		list = []any{data}
	}
	for _, v := range list {
		text, ok := v.(string)
		if !ok {
			return fmt.Errorf("%v: want a string or a list of strings", v)
		}
		*w = append(*w, text)
	}
	return nil
}

type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v <= 0 {
		return fmt.Errorf("%q: want a duration above zero, such as \"2s\"", text)
	}
	*d = duration(v)
	return nil
}

// A period may be none, which is negative as in [Config].
type period time.Duration

func (p *period) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("%q: want a duration such as \"30s\", or \"0s\"", text)
	}
	if *p = period(v); v == 0 {
		*p = -1
	}
	return nil
}
