package template

import "testing"

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
