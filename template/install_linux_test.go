package template

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestMountedDestIsWrittenInPlace(t *testing.T) {
	f := newFolder(t, "keys = [\"/\"]\nmode = \"0600\"\n", `{{getv "/a"}}`, "a: 1")
	f.write("out/dest", "old and longer")
	f.write("outside", "old and longer")
	if err := syscall.Mount(f.path("outside"), f.path("out/dest"), "", syscall.MS_BIND, ""); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	defer syscall.Unmount(f.path("out/dest"), 0)
	for range 2 {
		if err := f.engine.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f.want("outside", "1")
	if info, err := os.Stat(f.path("outside")); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode: got %v, %v, want 0600", info.Mode(), err)
	}
	if n := f.count(Updated); n != 1 {
		t.Errorf("updated %d times, want once: the second pass finds it in sync", n)
	}
	left, _ := filepath.Glob(f.path("out/.dest*"))
	if len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}
