package template

import (
	"strings"
	"testing"
)

func TestCheckFindsAllUnknownTables(t *testing.T) {
	f := newFolder(t, "", "", "")
	f.write("conf.d/r.toml", "[templat]\nsrc = 't'\n[template]\nsrc = 't'\ndest = 'x'\nowner = 'no-such-user-here'\n")
	files, wrong := Check(f.dir)
	var got string
	for _, err := range wrong {
		got += err.Error() + "\n"
	}
	path := f.path("conf.d/r.toml")
	want := path + ":1: unknown key \"templat\" (did you mean \"template\"?)\n" +
		path + ":2: unknown key \"templat.src\"\n" +
		path + ":6: owner \"no-such-user-here\": user: unknown user no-such-user-here\n"
	if files != 2 || got != want {
		t.Errorf("got %d files and\n%swant 2 and\n%s", files, got, want)
	}
}

// What a fork of confd has, and confd has not, is named with what to do instead.
func TestCheckKnowsTheFork(t *testing.T) {
	f := newFolder(t, `mode = "640"
output_format = "json"
Debounce = "2s"
min_reload_interval = "1s"
check_cmd_timeout = "5s"
reload_cmd_timeout = "5s"
timeout = "5s"
[backend]
type = "env"
`, "", "")
	_, wrong := Check(f.dir)
	var got string
	for _, err := range wrong {
		got += strings.TrimPrefix(err.Error(), f.path("conf.d/r.toml")) + "\n"
	}
	want := `:5: unknown key "output_format" in [template]: let check_cmd look at the text
:6: unknown key "Debounce" in [template]: -debounce is for all resources
:7: unknown key "min_reload_interval" in [template]: reloads are a second apart
:8: unknown key "check_cmd_timeout" in [template]: check_cmd is ended after 30 seconds
:9: unknown key "reload_cmd_timeout" in [template]: reload_cmd is ended after a minute
:10: unknown key "timeout" in [template]
:11: unknown key "backend": all resources have one store, as -backend says
:4: mode "640": decimal, and so 0200: did you mean "0640"?
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
