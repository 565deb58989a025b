package confd

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/rogpeppe/go-internal/diff"

	"muster/template"
)

// differ is -diff: it writes to out how a file's text is going to change, and
// passes events on to next. The stage file and dest are both there when they
// are being compared.
func differ(out io.Writer, next func(template.Event)) func(template.Event) {
	var mu sync.Mutex // resources are compared at the same time
	return func(ev template.Event) {
		if ev.What == template.Comparing && ev.Path != "" {
			mu.Lock()
			writeDiff(out, ev.Resource.Dest, ev.Path)
			mu.Unlock()
		}
		next(ev)
	}
}

func writeDiff(out io.Writer, dest, stage string) {
	want, err := os.ReadFile(stage)
	if err != nil {
		fmt.Fprintln(out, err)
		return
	}
	have, err := os.ReadFile(dest)
	before := dest
	if os.IsNotExist(err) {
		before = os.DevNull
	} else if err != nil {
		fmt.Fprintln(out, err)
		return
	}
	_, _ = out.Write(diff.Diff(before, have, dest, want))
}
