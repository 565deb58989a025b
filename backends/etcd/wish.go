package etcd

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"muster/backends"
)

// A wish is what the last Write said about one key.
type wish struct {
	value   string // it was to have last
	put     bool   // there was one
	absent  bool   // it shall not be there, under this lease
	leader  string // the key that decides about this one, see [Lease.Write]; or itself
	done    bool   // etcd has had it so
	writing int    // calls of Write that are at it
	at      time.Time
	yielded bool // another holds it, and that was logged
}

// wishes are all of them, and whoever watches their keys is told when there are
// others.
type wishes struct {
	keys   map[string]*wish
	former map[string]string // of the process before, as the lease file says
	valid  context.Context   // ends when keys has others
	end    context.CancelFunc
}

func newWishes() wishes {
	w := wishes{keys: make(map[string]*wish)}
	w.valid, w.end = context.WithCancel(context.Background())
	return w
}

// forgetAfter is how long a key that was taken back is watched: a member that
// was frozen may still write what it was told before.
const forgetAfter = time.Minute

// changed tells that there are other keys to watch.
func (w *wishes) changed() {
	w.end()
	w.valid, w.end = context.WithCancel(context.Background())
}

// begin notes what a Write is about to do. Of two at the same key the later one
// counts.
func (l *Lease) begin(put []backends.KV, del []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wrote := make(map[string]bool, len(put)+len(del))
	for _, p := range put {
		wrote[p.Key] = true
	}
	for _, key := range del {
		wrote[key] = true
	}
	for _, p := range put {
		w := l.wishes.note(p.Key, wrote)
		w.value, w.put, w.absent = p.Value, true, false
	}
	for _, key := range del {
		l.wishes.note(key, wrote).absent = true
	}
}

// beginDrop begins to delete some of the keys of the process before, and
// returns them.
func (l *Lease) beginDrop() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	keys := slices.Sorted(maps.Keys(l.wishes.former))
	keys = keys[:min(len(keys), maxOps)]
	for _, key := range keys {
		l.wishes.note(key, nil).absent = true
	}
	return keys
}

// note is the wish for key that a Write of these keys is at.
func (w *wishes) note(key string, wrote map[string]bool) *wish {
	k := w.keys[key]
	if k == nil {
		k = new(wish)
		w.keys[key] = k
	}
	k.done, k.at = false, time.Now()
	k.writing++
	k.leader = key
	if leader := leaderOf(key); wrote[leader] {
		k.leader = leader
	}
	delete(w.former, key)
	return k
}

// finish notes how it went: without an error etcd has it as it was wished.
func (l *Lease) finish(put []backends.KV, del []string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	others := false
	over := func(key string) {
		w := l.wishes.keys[key]
		if w == nil {
			return // another Write of it was refused
		}
		w.writing--
		if err == nil && w.writing == 0 {
			w.done = true
			others = true
		}
		if isConflict(err) && w.writing == 0 {
			delete(l.wishes.keys, key)
			others = true
		}
	}
	for _, p := range put {
		over(p.Key)
	}
	for _, key := range del {
		over(key)
	}
	if !others {
		return
	}
	maps.DeleteFunc(l.wishes.keys, func(_ string, w *wish) bool {
		return w.absent && w.done && time.Since(w.at) > forgetAfter
	})
	l.wishes.changed()
	l.saveFile()
}

// leaderOf is the key P/… to a key P.meta/…, and any other key itself.
func leaderOf(key string) string { return strings.Replace(key, ".meta/", "/", 1) }

// watched are the keys to watch, for as long as valid lasts.
func (l *Lease) watched() (keys []string, valid context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, w := range l.wishes.keys {
		if w.done {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, l.wishes.valid
}

// settled is the wish for key that a watch may judge by: one that is done and
// that no Write is at. l.mu is held.
func (w *wishes) settled(key string) *wish {
	if wish := w.keys[key]; wish != nil && wish.done && wish.writing == 0 {
		return wish
	}
	return nil
}
