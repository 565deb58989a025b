package template

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"muster/backends"
)

// A Resource is the [template] table of one file in conf.d: a template, the
// keys it takes and the file it makes. Names of keys match without regard to
// case and unknown ones are ignored, as in confd.
type Resource struct {
	Src    string   `toml:"src"`    // below the folder templates
	Dest   string   `toml:"dest"`   // relative to the working folder
	Keys   []string `toml:"keys"`   // what the template sees of the store
	Prefix string   `toml:"prefix"` // goes before each key, and is cut off the names the template sees

	// Mode is a number as C writes it, so 0640 is octal and 640 is not. Empty
	// means the mode that dest has, or 0644.
	Mode string `toml:"mode"`

	// UID and GID are dest's owners; absent or -1 they are looked up by Owner
	// and Group, and where those are empty too it is the process's own.
	UID   *int   `toml:"uid"`
	GID   *int   `toml:"gid"`
	Owner string `toml:"owner"`
	Group string `toml:"group"`

	// Check runs before dest is replaced and can prevent it, Reload after.
	// Both know the stage file as {{.src}} and dest as {{.dest}}.
	Check  string `toml:"check_cmd"`
	Reload string `toml:"reload_cmd"`

	File string `toml:"-"` // where it was read
	text string // of File: errors found later say the line
}

// ErrNoResources and a NoConfdirError are why there is nothing to render.
var ErrNoResources = errors.New("no resource in conf.d")

// A NoConfdirError says that the folder of resources and templates isn't there.
type NoConfdirError struct{ Confdir string }

func (e *NoConfdirError) Error() string { return fmt.Sprintf("confdir %q: no such folder", e.Confdir) }

// ErrNoSrc is what is wrong with a resource that names no template.
var ErrNoSrc = errors.New("empty src template")

// A LoadError is why the file at Path is no resource.
type LoadError struct {
	Path string
	Line int // 0 where it is not known
	Err  error
}

func (e *LoadError) Error() string { return position(e.Path, e.Line) + ": " + e.Err.Error() }

func (e *LoadError) Unwrap() error { return e.Err }

func position(file string, line int) string {
	if line == 0 {
		return file
	}
	return file + ":" + strconv.Itoa(line)
}

// Load reads the resources below confdir/conf.d in the byte order of names: all
// files whose name ends in toml. One that is broken hurts only itself and is
// among broken; err says that conf.d as a whole can't be read.
func Load(confdir string) (good []*Resource, broken []error, err error) {
	paths, err := find(confdir)
	for _, path := range paths {
		r, err := ReadResource(path)
		if err != nil {
			broken = append(broken, err)
			continue
		}
		good = append(good, r)
	}
	return good, broken, err
}

// find returns the paths of the resource files. Links to files are followed,
// and conf.d itself if it is one; links to folders are not.
func find(confdir string) ([]string, error) {
	if _, err := os.Stat(confdir); errors.Is(err, fs.ErrNotExist) {
		return nil, &NoConfdirError{confdir}
	}
	root := filepath.Join(confdir, "conf.d")
	info, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{root}, nil
	}
	var paths []string
	err = filepath.WalkDir(root+string(filepath.Separator), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(entry.Name(), "toml") {
			return err
		}
		info, err := os.Stat(path)
		if err == nil && !info.IsDir() {
			paths = append(paths, path)
		}
		return err
	})
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("%s: %w", root, ErrNoResources)
	}
	return paths, err
}

// ReadResource reads the file at path.
func ReadResource(path string) (*Resource, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, &LoadError{path, 0, err}
	}
	return parseResource(path, string(text))
}

func parseResource(path, text string) (*Resource, error) {
	var file struct {
		Template Resource `toml:"template"`
	}
	if _, err := toml.Decode(text, &file); err != nil {
		return nil, TOMLError(path, err)
	}
	r := &file.Template
	r.File, r.text = path, text
	if r.Src == "" {
		return nil, &LoadError{path, r.line("src"), ErrNoSrc}
	}
	return r, nil
}

// line is where key is set in the file, 0 where no line begins with it.
func (r *Resource) line(key string) int {
	n := 0
	for line := range strings.Lines(r.text) {
		n++
		name, _, ok := strings.Cut(line, "=")
		name = strings.Trim(strings.TrimSpace(name), `"'`)
		if ok && (strings.EqualFold(name, key) || strings.EqualFold(name, "template."+key)) {
			return n
		}
	}
	return 0
}

// wrong is an error about the value of key.
func (r *Resource) wrong(key string, value any, err error) error {
	return fmt.Errorf("%s: %s %#v: %w", position(r.File, r.line(key)), key, value, err)
}

// template is the path of the template. It lies below the folder templates
// unless dots lead it away; a leading slash doesn't.
func (r *Resource) template(confdir string) string { return filepath.Join(confdir, "templates", r.Src) }

// mode returns the mode that dest shall have, if the resource says so.
func (r *Resource) mode() (mode fs.FileMode, given bool, err error) {
	if r.Mode == "" {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(r.Mode, 0, 32)
	if err != nil {
		return 0, false, r.wrong("mode", r.Mode, err)
	}
	return fs.FileMode(n) & fs.ModePerm, true, nil
}

// owners returns the ids that dest shall have.
func (r *Resource) owners() (uid, gid int, err error) {
	uid, gid = os.Geteuid(), os.Getegid()
	switch {
	case r.UID != nil && *r.UID != -1:
		uid = *r.UID
	case r.Owner != "":
		u, err := user.Lookup(r.Owner)
		if err == nil {
			uid, err = strconv.Atoi(u.Uid)
		}
		if err != nil {
			return 0, 0, r.wrong("owner", r.Owner, err)
		}
	}
	switch {
	case r.GID != nil && *r.GID != -1:
		gid = *r.GID
	case r.Group != "":
		g, err := user.LookupGroup(r.Group)
		if err == nil {
			gid, err = strconv.Atoi(g.Gid)
		}
		if err != nil {
			return 0, 0, r.wrong("group", r.Group, err)
		}
	}
	return uid, gid, nil
}

// prefixes are the keys as the store knows them. A key /x/* is /x, as people
// write it who think of the pattern in the template.
func (r *Resource) prefixes(override string) []string {
	prefixes := make([]string, len(r.Keys))
	for i, key := range r.Keys {
		prefixes[i] = path.Join(r.prefix(override), strings.TrimSuffix(key, "/*"))
	}
	return prefixes
}

func (r *Resource) prefix(override string) string {
	p := r.Prefix
	if override != "" {
		p = override
	}
	if !strings.HasPrefix(p, "/") {
		p = "/" + p
	}
	return p
}

// name is what the template calls the key of the store: without the prefix, cut
// off once and by whole elements.
func (r *Resource) name(override, key string) string {
	if p := r.prefix(override); cuts(p, key) {
		key = strings.TrimPrefix(key, strings.TrimRight(p, "/"))
	}
	return path.Join("/", key)
}

// cuts reports whether the prefix goes off key: /a off /a and /a/b, but /a/ off
// /a/b only.
func cuts(prefix, key string) bool {
	return backends.Under(prefix, key) && (!strings.HasSuffix(prefix, "/") || strings.TrimRight(prefix, "/") != key)
}
