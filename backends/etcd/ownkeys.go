package etcd

import (
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"muster/backends"
)

const (
	// repairEvery is how far apart two repairs are. The first comes at once.
	repairEvery = 500 * time.Millisecond

	// Who undoes a repair again and again means it: the pause doubles up to
	// repairLate, until there was none for calmAfter.
	repairLate = 30 * time.Second
	calmAfter  = time.Minute

	// askOwnEvery is how often etcd is asked where it stands by whoever watches
	// the own keys; with a short TTL as often as it is renewed.
	askOwnEvery = 5 * time.Second
)

// keepKeys watches the keys that Write wrote, and puts right what others do to
// them, until ctx ends.
func (l *Lease) keepKeys(ctx context.Context) {
	var pace pace
	for ctx.Err() == nil {
		keys, valid := l.watched()
		if len(keys) == 0 {
			select {
			case <-valid.Done():
			case <-ctx.Done():
			}
			continue
		}
		watching, cancel := context.WithCancel(ctx)
		unhook := context.AfterFunc(valid, cancel)
		for c, err := range l.store.watchKeys(watching, keys, min(max(askEvery, l.ttl/3), askOwnEvery)) {
			if err != nil {
				continue // the renewal that fails too tells of it
			}
			l.repairAll(watching, l.wrong(c, keys), &pace)
		}
		unhook()
		cancel()
		pause(ctx, 20*time.Millisecond) // many Writes in a row are one change
	}
}

// repairAll repairs keys until that worked or ctx ends.
func (l *Lease) repairAll(ctx context.Context, keys []string, pace *pace) {
	failures := 0
	for len(keys) > 0 && pause(ctx, time.Until(pace.next)) {
		wrote, err := l.repair(ctx, keys)
		if wrote {
			pace.took(time.Now())
		}
		if err == nil || !pause(ctx, retryAfter(&failures)) {
			return
		}
	}
}

// A pace says when the next repair may be.
type pace struct {
	last, next time.Time
	often      int
}

func (p *pace) took(now time.Time) {
	if now.Sub(p.last) > calmAfter {
		p.often = 0
	}
	p.last = now
	p.next = now.Add(min(repairLate, repairEvery<<max(0, min(p.often-2, 8))))
	p.often++
}

// watchKeys is Watch for these keys and nothing below them. It asks etcd where it
// stands only so often: the renewals tell of an etcd that is away, and asking is
// most of what an idle announcer does.
func (s *Store) watchKeys(ctx context.Context, keys []string, every time.Duration) iter.Seq2[backends.Change, error] {
	return func(yield func(backends.Change, error) bool) {
		w := &watch{store: s, yield: yield, exact: true, every: every}
		for i, key := range keys {
			w.place.spans = append(w.place.spans, span{from: key, group: i})
		}
		w.run(ctx)
	}
}

// wrong are the keys of c that are not as they were wished, as far as can be
// told from here.
func (l *Lease) wrong(c backends.Change, watched []string) (wrong []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	there := make(map[string]bool, len(c.Put))
	for _, kv := range c.Put {
		there[kv.Key] = true
		w := l.wishes.settled(kv.Key)
		switch {
		case w == nil:
		case l.mine[kv.Lease]:
			w.yielded = false
			if w.absent || kv.Lease != l.id || kv.Value != w.value {
				wrong = append(wrong, kv.Key)
			}
		case w.absent:
		case kv.Lease == 0:
			wrong = append(wrong, kv.Key)
		case !w.yielded:
			w.yielded = true
			l.yield(kv, w)
		}
	}
	missing := c.Deleted
	if c.Full {
		missing = watched
	}
	for _, key := range missing {
		if w := l.wishes.settled(key); w != nil && !w.absent && !there[key] {
			wrong = append(wrong, key)
		}
	}
	return wrong
}

// yield tells of another announcer that has put kv in place of what was wished.
// One that put the very same took us for its former self, which had died: two of
// us live. Where there is metadata beside it, that may say where the other is.
func (l *Lease) yield(kv backends.KV, wished *wish) {
	text := "key was taken over by another, waiting until it is free"
	switch {
	case wished.leader != kv.Key:
		text = "what stands beside the key is another's"
	case kv.Value == wished.value:
		text = "another announces the same under this key, waiting until it ends"
	}
	l.store.log.Warn(text, "store", "etcd", "key", kv.Key, "value", kv.Value, "lease", hex(kv.Lease))
}

// repair makes etcd have what was wished of keys, and of those beside them. It
// reports whether there was something to do. What another holds stays.
func (l *Lease) repair(ctx context.Context, keys []string) (wrote bool, err error) {
	id, err := l.wait(ctx, true)
	if err != nil {
		return false, err
	}
	select {
	case l.repairing <- struct{}{}:
		defer func() { <-l.repairing }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	put, del := l.family(keys)
	for len(put)+len(del) > 0 {
		w := write{lease: l, repair: true}
		n := min(maxOps, len(put))
		w.put, put = put[:n], put[n:]
		n = min(maxOps-n, len(del))
		w.del, del = del[:n], del[n:]
		err := l.store.ask(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
			return w.try(ctx, etcdserverpb.NewKVClient(conn), id)
		})
		if is(err, rpctypes.ErrGRPCLeaseNotFound) {
			l.gone(id)
		}
		if err != nil {
			return wrote, err
		}
		if len(w.wrote) > 0 {
			wrote = true
			l.store.log.Warn("key was changed by another, put right", "store", "etcd", "key", w.wrote[0], "keys", len(w.wrote))
		}
	}
	return wrote, nil
}

// family is what is wished of keys and of those that share a leader with them.
// A leader comes before those that follow it.
func (l *Lease) family(keys []string) (put []backends.KV, del []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	leaders := make(map[string]bool)
	for _, key := range keys {
		if w := l.wishes.settled(key); w != nil {
			leaders[w.leader] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(l.wishes.keys)) {
		w := l.wishes.settled(key)
		switch {
		case w == nil || !leaders[w.leader]:
		case w.absent:
			del = append(del, key)
		default:
			put = append(put, backends.KV{Key: key, Value: w.value})
		}
	}
	return put, del
}

// dropFormer takes back the keys of the process before that this one has not
// claimed: nobody would ever.
func (l *Lease) dropFormer(ctx context.Context) {
	l.mu.Lock()
	none := len(l.wishes.former) == 0
	l.mu.Unlock()
	if none || !pause(ctx, l.claim) {
		return
	}
	for {
		keys := l.beginDrop()
		if len(keys) == 0 {
			return
		}
		switch err := l.run(ctx, nil, keys); {
		case err == nil:
			l.store.log.Info("keys of the process before were taken back", "store", "etcd", "key", keys[0], "keys", len(keys))
		case ctx.Err() == nil:
			l.store.log.Warn("keys of the process before stay", "store", "etcd", "key", keys[0], "keys", len(keys), "err", err)
		}
	}
}
