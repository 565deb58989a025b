package file

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"muster/backends"
	"muster/backends/backendtest"
)

func TestContract(t *testing.T) {
	for name, match := range map[string]func(prefix, key string) bool{"by element": backends.Under, "by string": backends.HasPrefix} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "data.json")
			away := path + ".away"
			keys := make(map[string]string)
			save := func(t testing.TB) {
				text, err := json.Marshal(keys)
				if err == nil {
					err = os.WriteFile(path+".new", text, 0o644)
				}
				if err == nil {
					err = os.Rename(path+".new", path)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			rename := func(from, to string) func(testing.TB) {
				return func(t testing.TB) {
					if err := os.Rename(from, to); err != nil {
						t.Fatal(err)
					}
				}
			}
			backendtest.Run(t, backendtest.Harness{
				Open: func(t testing.TB) backends.Store { return New(Config{Paths: []string{path}, Match: match}) },
				Put: func(t testing.TB, key, value string) {
					keys[key] = value
					save(t)
				},
				Delete: func(t testing.TB, key string) {
					delete(keys, key)
					save(t)
				},
				Stop:     rename(path, away),
				Start:    rename(away, path),
				ByString: name == "by string",
			})
		})
	}
}
