package redis

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gomodule/redigo/redis"

	"muster/backends"
)

const (
	scanCount = 1000 // keys that Redis looks at in one step of SCAN
	readCount = 500  // keys in one transaction; those of one change may be more
)

// list reads everything that is wanted: by what Redis calls a key, what it gives.
func list(conn redis.Conn, w *wanted) (map[string][]backends.KV, error) {
	found := maps.Clone(w.exact)
	if found == nil {
		found = make(map[string]bool)
	}
	for _, pattern := range w.patterns() {
		if err := scan(conn, pattern, found); err != nil {
			return nil, err
		}
	}
	all := make(map[string][]backends.KV, len(found))
	for keys := range slices.Chunk(slices.Sorted(maps.Keys(found)), readCount) {
		read, err := read(conn, w, keys)
		if err != nil {
			return nil, err
		}
		for raw, kvs := range read {
			if len(kvs) > 0 {
				all[raw] = kvs
			}
		}
	}
	return all, nil
}

// scan adds the keys that match pattern, in steps that hold nobody up.
func scan(conn redis.Conn, pattern string, found map[string]bool) error {
	for cursor := "0"; ; {
		reply, err := redis.Values(conn.Do("SCAN", cursor, "MATCH", pattern, "COUNT", scanCount))
		if err != nil {
			return err
		}
		var keys []string
		if _, err := redis.Scan(reply, &cursor, &keys); err != nil {
			return err
		}
		for _, key := range keys {
			found[key] = true
		}
		if cursor == "0" {
			return nil
		}
	}
}

// read returns what each of keys gives now, nothing for those that are not there
// or are neither a string nor a hash. All are read at one moment.
func read(conn redis.Conn, w *wanted, keys []string) (map[string][]backends.KV, error) {
	for range 5 {
		all, err := readOnce(conn, w, keys)
		if !isCode(err, "WRONGTYPE") { // else one was replaced in between
			return all, err
		}
	}
	return nil, errors.New("keys change their type faster than they can be read")
}

func readOnce(conn redis.Conn, w *wanted, keys []string) (map[string][]backends.KV, error) {
	get, err := getters(conn, w, keys)
	if err != nil {
		return nil, err
	}
	all := make(map[string][]backends.KV, len(keys))
	for _, key := range keys {
		all[key] = nil
	}
	if len(get) == 0 {
		return all, nil
	}
	if err := conn.Send("MULTI"); err != nil {
		return nil, err
	}
	for _, g := range get {
		if err := conn.Send(g.command, g.key); err != nil {
			return nil, err
		}
	}
	replies, err := redis.Values(conn.Do("EXEC"))
	if err != nil {
		return nil, err
	}
	for i, reply := range replies {
		if err, ok := reply.(redis.Error); ok {
			return nil, &keyError{get[i].key, err}
		}
		if all[get[i].key], err = w.values(get[i], reply); err != nil {
			return nil, &keyError{get[i].key, err}
		}
	}
	return all, nil
}

// A getter is how one key is read.
type getter struct{ command, key string }

func getters(conn redis.Conn, w *wanted, keys []string) (get []getter, err error) {
	for _, key := range keys {
		if err := conn.Send("TYPE", key); err != nil {
			return nil, err
		}
	}
	replies, err := redis.Values(conn.Do(""))
	if err != nil {
		return nil, err
	}
	for i, reply := range replies {
		kind, err := redis.String(reply, nil)
		switch {
		case isCode(err, "NOPERM") && w.exact[keys[i]] && !w.whole:
			// Who may read what lies below a prefix gets that.
		case err != nil:
			return nil, &keyError{keys[i], err}
		case kind == "string":
			get = append(get, getter{"GET", keys[i]})
		case kind == "hash":
			get = append(get, getter{"HGETALL", keys[i]})
		}
	}
	return get, nil
}

// values are what a key gives, sorted.
func (w *wanted) values(g getter, reply any) (kvs []backends.KV, err error) {
	name := w.names.name(g.key)
	if g.command == "GET" {
		value, err := redis.String(reply, nil)
		if errors.Is(err, redis.ErrNil) || err == nil && !w.wants(name) {
			return nil, nil
		}
		return []backends.KV{{Key: name, Value: value}}, err
	}
	fields, err := redis.StringMap(reply, nil)
	for field, value := range fields {
		if key := name + "/" + field; w.wants(key) {
			kvs = append(kvs, backends.KV{Key: key, Value: value})
		}
	}
	slices.SortFunc(kvs, func(a, b backends.KV) int { return strings.Compare(a.Key, b.Key) })
	return kvs, err
}

// A keyError is that a key can't be read.
type keyError struct {
	key string
	err error
}

func (e *keyError) Error() string { return fmt.Sprintf("key %q: %v", e.key, e.err) }

// Unwrap says too whether others may be read.
func (e *keyError) Unwrap() []error {
	if isCode(e.err, "NOPERM") {
		return []error{e.err, backends.ErrDenied}
	}
	return []error{e.err}
}

// isCode reports whether err is Redis's error that begins with code.
func isCode(err error, code string) bool {
	said, ok := errors.AsType[redis.Error](err)
	return ok && strings.HasPrefix(string(said), code+" ")
}
