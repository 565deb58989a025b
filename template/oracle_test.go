package template_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/etcdtest"
)

// TestOracle runs our confd as each recording of the original says and compares
// what came of it: files, links, modes, owners, exit codes and the log.
// testdata/oracle/README.md describes the recordings, known-differences.txt
// lists those that come out otherwise, with the reason.
func TestOracle(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/oracle/*/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	known := readKnown(t)
	binary := buildConfd(t)
	var passed, differ int
	var mu sync.Mutex
	t.Run("cases", func(t *testing.T) {
		server := etcdtest.Start(t)
		shared := &sharedEtcd{addr: server.Addr(), client: server.Client()}
		for _, path := range paths {
			name := strings.TrimSuffix(strings.TrimPrefix(path, "testdata/oracle/"), ".txtar")
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c := readCase(t, path)
				if c.needs == "root" && os.Geteuid() != 0 {
					t.Skip("needs root")
				}
				wrong := c.run(t, binary, shared)
				reason, listed := known[name]
				mu.Lock()
				defer mu.Unlock()
				switch {
				case wrong == "" && listed:
					t.Errorf("as recorded: take it off known-differences.txt (%s)", reason)
				case wrong == "":
					passed++
				case listed:
					differ++
				default:
					t.Errorf("%s\n%s", c.about, wrong)
				}
			})
		}
	})
	t.Logf("%d recordings: %d as recorded, %d differ for the reasons listed", len(paths), passed, differ)
}

func readKnown(t *testing.T) map[string]string {
	text, err := os.ReadFile("testdata/oracle/known-differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../docs/confd.md")
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, reason, ok := strings.Cut(line, ": ")
		if !ok {
			t.Fatalf("known-differences.txt: %q: want NAME: REASON", line)
		}
		if _, err := os.Stat("testdata/oracle/" + name + ".txtar"); err != nil {
			t.Errorf("known-differences.txt: %v", err)
		}
		if row := "| " + strings.TrimPrefix(reason, "log only: ") + " |"; !strings.Contains(string(docs), row) {
			t.Errorf("known-differences.txt: %s: docs/confd.md has no row %s", name, row)
		}
		known[name] = reason
	}
	return known
}

func buildConfd(t *testing.T) string {
	binary := filepath.Join(caseDir(t), "confd")
	if out, err := exec.Command("go", "build", "-o", binary, "muster/cmd/confd").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// A recording is one case.
type recording struct {
	about, needs string
	umask        string              // octal; empty: 022
	as           *syscall.Credential // nil: whoever runs the test
	runs         [][]string          // args of each
	exits        []int
	env          []string
	usesEtcd     bool
	files        map[string]string // sections
	order        []string

	confdir, out, data string // folders
	etcd               string // host:port
}

func readCase(t *testing.T, path string) *recording {
	a, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := &recording{files: make(map[string]string)}
	var args, quoted []string
	for line := range strings.Lines(string(a.Comment)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			continue
		}
		switch key {
		case "about":
			c.about = value
		case "needs":
			c.needs = value
		case "umask":
			c.umask = value
		case "as":
			c.as = new(syscall.Credential)
			if _, err := fmt.Sscanf(value, "%d:%d", &c.as.Uid, &c.as.Gid); err != nil {
				t.Fatal(err)
			}
		case "args":
			args = append(args, value)
		case "store":
			c.usesEtcd = value == "etcd"
		case "env":
			c.env = append(c.env, value)
		case "quoted":
			quoted = append(quoted, value)
		case "exit":
			for _, n := range strings.Fields(value) {
				exit, err := strconv.Atoi(n)
				if err != nil {
					t.Fatal(err)
				}
				c.exits = append(c.exits, exit)
			}
		}
	}
	for _, f := range a.Files {
		text := string(f.Data)
		if slices.Contains(quoted, f.Name) {
			text = unquote(t, text)
		}
		c.files[f.Name] = text
		c.order = append(c.order, f.Name)
	}
	for _, line := range args {
		c.runs = append(c.runs, words(t, line))
	}
	return c
}

// caseDir is a folder in memory where there is one: 735 recordings would wait
// long for a disk to say that it has them.
func caseDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "oracle")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // runs may be another user's
		t.Fatal(err)
	}
	return dir
}

func unquote(t *testing.T, text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		s, err := strconv.Unquote(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("unquote %s: %v", line, err)
		}
		b.WriteString(s)
	}
	return b.String()
}

// words splits a line at spaces; a word that begins with a quote is a literal.
func words(t *testing.T, line string) []string {
	var list []string
	for line = strings.TrimLeft(line, " "); line != ""; line = strings.TrimLeft(line, " ") {
		if line[0] != '"' {
			word, rest, _ := strings.Cut(line, " ")
			list, line = append(list, word), rest
			continue
		}
		literal, err := strconv.QuotedPrefix(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		word, _ := strconv.Unquote(literal)
		list, line = append(list, word), line[len(literal):]
	}
	return list
}

func (c *recording) expand(s string) string {
	return strings.NewReplacer("$CONFDIR", c.confdir, "$OUT", c.out, "$DATA", c.data, "$ETCD", c.etcd).Replace(s)
}

// contract is expand turned around.
func (c *recording) contract(s string) string {
	folders := []string{c.confdir, "$CONFDIR", c.out, "$OUT", c.data, "$DATA"}
	if c.etcd != "" {
		folders = append(folders, c.etcd, "$ETCD")
	}
	return strings.NewReplacer(folders...).Replace(s)
}

// run does what the case says and returns what is not as recorded.
func (c *recording) run(t *testing.T, binary string, e *sharedEtcd) string {
	if c.usesEtcd {
		defer e.take(t, c)()
	}
	c.prepare(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var log bytes.Buffer
	var wrong []string
	for i, args := range c.runs {
		for j := range args {
			args[j] = c.expand(args[j])
		}
		c.change(t, i+1)
		cmd := exec.CommandContext(ctx, binary, args...)
		if c.umask != "" {
			cmd = exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `umask "$1"; shift; exec "$@"`, "sh", c.umask, binary}, args...)...)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.as}
		cmd.Dir = c.out
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "AWS_EC2_METADATA_DISABLED=true"} // nobody is asked for credentials
		for _, v := range c.env {
			cmd.Env = append(cmd.Env, c.expand(strings.Join(words(t, v), " ")))
		}
		cmd.Stderr = &log
		err := cmd.Run()
		if ctx.Err() != nil {
			return "still running after a minute"
		}
		if got := cmd.ProcessState.ExitCode(); got != c.exits[i] {
			wrong = append(wrong, fmt.Sprintf("run %d: exit %d (%v), want %d", i+1, got, err, c.exits[i]))
		}
	}
	wrong = append(wrong, c.compareTree(t)...)
	if want, ok := c.files["want.log"]; ok {
		wrong = append(wrong, c.compareLog(log.String(), want)...)
	}
	if len(wrong) > 0 {
		wrong = append(wrong, "log:\n"+log.String())
	}
	return strings.Join(wrong, "\n")
}

// write writes the file that the section called name is, if it is one that is
// there before a run.
func (c *recording) write(t *testing.T, name, text string) {
	var path string
	switch folder, rest, _ := strings.Cut(name, "/"); folder {
	case "confdir":
		path = filepath.Join(c.confdir, rest)
	case "data":
		path = filepath.Join(c.data, rest)
	case "before":
		path = filepath.Join(c.out, rest)
	case "data.yaml", "data.json":
		path = filepath.Join(c.data, name)
	default:
		return
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(c.expand(text)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// change writes what is new before a run: the sections run2/NAME and so on.
func (c *recording) change(t *testing.T, run int) {
	for _, name := range c.order {
		if rest, ok := strings.CutPrefix(name, fmt.Sprintf("run%d/", run)); ok {
			c.write(t, rest, c.files[name])
		}
	}
}

func (c *recording) prepare(t *testing.T) {
	dir := caseDir(t)
	c.confdir, c.out, c.data = filepath.Join(dir, "confdir"), filepath.Join(dir, "out"), filepath.Join(dir, "data")
	for _, d := range []string{c.confdir, c.out, c.data} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range c.order {
		c.write(t, name, c.files[name])
	}
	for line := range strings.Lines(c.files["setup"]) {
		w := words(t, strings.TrimSpace(line))
		for i := range w {
			w[i] = c.expand(w[i])
		}
		var err error
		switch w[0] {
		case "link":
			err = os.Symlink(w[2], w[1])
		case "hardlink":
			err = os.Link(w[2], w[1])
		case "mount":
			mountOver(t, w[1], w[2])
		case "chmod":
			var mode uint64
			if mode, err = strconv.ParseUint(w[1], 8, 32); err == nil {
				err = syscall.Chmod(w[2], uint32(mode))
			}
		case "chown":
			var uid, gid int
			if _, err = fmt.Sscanf(w[1], "%d:%d", &uid, &gid); err == nil {
				err = os.Chown(w[2], uid, gid)
			}
		default:
			err = fmt.Errorf("unknown setup %q", line)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// stageName is the name of a stage file: the digits are random.
var stageName = regexp.MustCompile(`(/\.[^/\s]*?)[0-9]{5,}`)

func hideDigits(s string) string { return stageName.ReplaceAllString(s, "$1#") }

// compareTree compares all that lies in $OUT.
func (c *recording) compareTree(t *testing.T) (wrong []string) {
	want := make(map[string]string)
	for _, name := range c.order {
		if file, ok := strings.CutPrefix(name, "want/"); ok {
			want[file] = c.files[name]
		}
	}
	links := make(map[string]string)
	for line := range strings.Lines(c.files["want.links"]) {
		name, target, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " -> ")
		links[name] = target
	}
	modes, owners := c.table("want.modes"), c.table("want.owners")
	err := filepath.WalkDir(c.out, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name := strings.TrimPrefix(hideDigits(strings.TrimPrefix(path, c.out)), "/")
		if entry.Type() == fs.ModeSymlink {
			target, err := os.Readlink(path)
			if c.contract(target) != links[name] {
				wrong = append(wrong, fmt.Sprintf("link %s -> %q, want %q", name, c.contract(target), links[name]))
			}
			delete(links, name)
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		got := hideDigits(c.contract(string(text)))
		if wantText, ok := want[name]; !ok {
			wrong = append(wrong, fmt.Sprintf("file %s is there: %q", name, got))
		} else if got != wantText {
			wrong = append(wrong, fmt.Sprintf("file %s: got\n%swant\n%s", name, got, wantText))
		}
		delete(want, name)
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		wantMode := "0644"
		if m := modes[name]; m != "" {
			wantMode = m
		}
		if got := fmt.Sprintf("%04o", st.Mode&0o7777); got != wantMode {
			wrong = append(wrong, fmt.Sprintf("file %s: mode %s, want %s", name, got, wantMode))
		}
		if got := fmt.Sprintf("%d:%d", st.Uid, st.Gid); owners[name] != "" && got != owners[name] {
			wrong = append(wrong, fmt.Sprintf("file %s: owners %s, want %s", name, got, owners[name]))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		wrong = append(wrong, "file "+name+" is missing")
	}
	for _, name := range slices.Sorted(maps.Keys(links)) {
		wrong = append(wrong, "link "+name+" is missing")
	}
	return wrong
}

// table reads lines of NAME VALUE.
func (c *recording) table(section string) map[string]string {
	m := make(map[string]string)
	for line := range strings.Lines(c.files[section]) {
		line = strings.TrimSuffix(line, "\n")
		if i := strings.LastIndexByte(line, ' '); i > 0 {
			m[line[:i]] = line[i+1:]
		}
	}
	return m
}

var logLine = regexp.MustCompile(`^\S+ \S+ \S+\[\d+\]: ([A-Z]+) (.*)$`)

// compareLog compares the lines from INFO up.
func (c *recording) compareLog(got, want string) (wrong []string) {
	var lines []string
	for line := range strings.Lines(got) {
		m := logLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		switch {
		case m == nil && len(lines) > 0:
			lines[len(lines)-1] += "\n" + strings.TrimSuffix(line, "\n") // a message of several lines
		case m != nil && m[1] != "DEBUG":
			lines = append(lines, hideDigits(c.contract(m[1]+" "+m[2])))
		}
	}
	wanted := strings.Split(strings.TrimSuffix(want, "\n"), "\n")
	if want == "" {
		wanted = nil
	}
	if len(lines) != len(wanted) {
		return []string{fmt.Sprintf("%d log lines, want %d:\n%s", len(lines), len(wanted), want)}
	}
	for i := range wanted {
		if !sameLine(lines[i], wanted[i]) {
			wrong = append(wrong, fmt.Sprintf("log line\n\t%s\nwant\n\t%s", lines[i], wanted[i]))
		}
	}
	return wrong
}

// exact are the error lines that scripts know; in front of others ours may say
// where it happened.
var exact = regexp.MustCompile(`^(ERROR|FATAL) (Missing template|Unable to process|Config check failed|template: |Cannot |exit status|signal: |")`)

// systemCall is what the system was asked for; ours may ask for another thing.
var systemCall = regexp.MustCompile(`\b(?:open|stat|rename) \$`)

func sameLine(got, want string) bool {
	got, want = systemCall.ReplaceAllString(got, "CALL $$"), systemCall.ReplaceAllString(want, "CALL $$")
	level, text, _ := strings.Cut(want, " ")
	text, open := strings.CutSuffix(text, "…")
	if got == want || open && strings.HasPrefix(got, level+" "+text) {
		return true
	}
	if level != "ERROR" && level != "FATAL" || exact.MatchString(want) {
		return false
	}
	rest, ok := strings.CutPrefix(got, level+" ")
	return ok && (strings.HasSuffix(rest, ": "+text) || open && strings.Contains(rest, ": "+text))
}

// A sharedEtcd is for one case at a time.
type sharedEtcd struct {
	addr   string
	client *clientv3.Client
	mu     sync.Mutex
}

// take waits for the etcd and fills it as c says.
func (e *sharedEtcd) take(t *testing.T, c *recording) (giveBack func()) {
	e.mu.Lock()
	c.etcd = e.addr
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := e.client.Delete(ctx, "", clientv3.WithPrefix())
	for line := range strings.Lines(c.files["keys"]) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if err == nil && strings.HasPrefix(value, `"`) {
			value, err = strconv.Unquote(value)
		}
		if err == nil {
			_, err = e.client.Put(ctx, key, value)
		}
	}
	if err != nil {
		e.mu.Unlock()
		t.Fatal(err)
	}
	return e.mu.Unlock
}
