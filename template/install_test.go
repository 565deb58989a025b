package template

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOrderOfOnePass(t *testing.T) {
	f := newFolder(t, `keys = ["/"]
check_cmd = "true"
reload_cmd = "true"
`, `{{getv "/a"}}`, "a: 1")
	for pass, want := range []string{
		"Loading Found Reading Rendering Comparing OutOfSync Running check_cmd Ran check_cmd Replacing Running reload_cmd Ran reload_cmd Updated",
		"Loading Found Reading Rendering Comparing InSync",
	} {
		f.events = nil
		if err := f.engine.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
		names := map[What]string{
			Loading: "Loading", Found: "Found", Reading: "Reading", Rendering: "Rendering", Comparing: "Comparing", InSync: "InSync",
			OutOfSync: "OutOfSync", Running: "Running", Ran: "Ran", Replacing: "Replacing", Updated: "Updated",
		}
		var got []string
		for _, ev := range f.events {
			got = append(got, strings.TrimSpace(names[ev.What]+" "+ev.Key))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("pass %d: got  %s\nwant %s", pass, s, want)
		}
	}
}

func TestFailedReloadIsRunAgain(t *testing.T) {
	f := newFolder(t, "keys = [\"/\"]\nreload_cmd = \"echo try >> TRIES; test -e OK\"\n", `{{getv "/a"}}`, "a: 1")
	resource, _ := os.ReadFile(f.path("conf.d/r.toml"))
	f.write("conf.d/r.toml", strings.NewReplacer("TRIES", f.path("tries"), "OK", f.path("ok")).Replace(string(resource)))
	for range 2 {
		var command *CommandError
		if err := f.engine.Once(t.Context()); !errors.As(err, &command) || command.Key != "reload_cmd" {
			t.Fatalf("got %v, want that reload_cmd failed", err)
		}
	}
	f.want("out/dest", "1")
	f.write("ok", "")
	for range 2 { // the second has nothing to do
		if err := f.engine.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f.want("tries", "try\ntry\ntry\n")
}

func TestKeptStageFileIsACopy(t *testing.T) {
	f := newFolder(t, "keys = [\"/\"]\n", `{{getv "/a"}}`, "a: 1")
	f.engine.KeepStage = true
	if err := f.engine.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	kept, _ := filepath.Glob(f.path("out/.dest*"))
	if len(kept) != 1 {
		t.Fatalf("kept %v, want one", kept)
	}
	f.want("out/"+filepath.Base(kept[0]), "1")
	f.want("out/dest", "1")
}

func TestNothingIsLeftWhenATemplateFails(t *testing.T) {
	f := newFolder(t, "keys = [\"/\"]\n", `begun {{getv "/none"}}`, "a: 1")
	f.write("out/dest", "old")
	err := f.engine.Once(t.Context())
	if err == nil || !strings.Contains(err.Error(), "key does not exist: /none") {
		t.Errorf("got %v, want the missing key", err)
	}
	f.want("out/dest", "old")
	if left, _ := filepath.Glob(f.path("out/.dest*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}
