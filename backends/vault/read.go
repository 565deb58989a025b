package vault

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/vault/api"

	"muster/backends"
)

// atOnce is how many secrets are read at the same time.
const atOnce = 8

// read returns every key under prefixes. Where whole is false it leaves out what
// may not be read.
func (s *Store) read(ctx context.Context, prefixes []string, whole bool) ([]backends.KV, error) {
	token, err := s.ensure(ctx)
	if err != nil {
		return nil, err
	}
	kvs, err := s.readWith(ctx, prefixes, whole)
	if status(err) != http.StatusForbidden { // a token that is refused is told so before anything is left out
		return kvs, err
	}
	// Is it the token, or what it may do?
	dead := s.do(ctx, func(ctx context.Context, c *api.Client) error {
		_, err := c.Auth().Token().LookupSelfWithContext(ctx)
		return err
	})
	if status(dead) != http.StatusForbidden {
		return kvs, err
	}
	if err := s.refused(ctx, token); err != nil {
		return nil, err
	}
	return s.readWith(ctx, prefixes, whole)
}

// readWith reads with the token that is there.
func (s *Store) readWith(ctx context.Context, prefixes []string, whole bool) ([]backends.KV, error) {
	roots, err := s.roots(ctx, outer(prefixes))
	if err != nil {
		return nil, err
	}
	var all []secret
	for _, r := range roots {
		found, err := s.walk(ctx, r, whole)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return s.keys(all), nil
}

// A root is what one prefix, or one mount below it, asks for.
type root struct {
	name       string // of the key
	read, list string // Vault's paths
	kv         bool   // it is in a KV engine
	unwrap     bool   // the data are in a wrapper, as in version 2
	mount      bool   // it is the mount itself
}

// roots finds out which engines prefixes are in. Those above mounts are all KV
// engines below.
func (s *Store) roots(ctx context.Context, prefixes []string) (roots []root, err error) {
	var mounts struct {
		Data struct {
			Secret map[string]struct {
				Type    string
				Options map[string]string
			}
		}
	}
	err = s.do(ctx, func(ctx context.Context, c *api.Client) error {
		answer, err := c.Logical().ReadRawWithContext(ctx, "sys/internal/ui/mounts")
		if answer != nil {
			defer answer.Body.Close()
		}
		if err != nil {
			return err
		}
		return json.NewDecoder(answer.Body).Decode(&mounts)
	})
	if err != nil {
		return nil, err
	}
	for _, p := range prefixes {
		in := false
		for mount, engine := range mounts.Data.Secret {
			at := "/" + strings.TrimSuffix(mount, "/")
			kv := engine.Type == "kv" || engine.Type == "generic"
			switch {
			case backends.Under(at, p) && p != "":
				in = true
				roots = append(roots, within(at, p, kv, engine.Options["version"] == "2"))
			case backends.Under(p, at) && kv:
				in = true
				roots = append(roots, within(at, at, kv, engine.Options["version"] == "2"))
			}
		}
		if !in && p != "" {
			roots = append(roots, root{name: p, read: p[1:], list: p[1:]})
		}
	}
	slices.SortFunc(roots, func(a, b root) int { return cmp.Compare(a.name, b.name) })
	return roots, nil
}

// within is the prefix p in the engine that is mounted at. Of version 2 the paths
// data/ and metadata/ are shown as Vault has them, where somebody names them.
func within(at, p string, kv, two bool) root {
	sub := strings.TrimPrefix(p[len(at):], "/")
	r := root{name: p, read: p[1:], list: p[1:], kv: kv, mount: sub == ""}
	if !two {
		return r
	}
	kind, rest, _ := strings.Cut(sub, "/")
	switch kind {
	case "metadata":
	case "data":
		r.list = path.Join(at[1:], "metadata", rest)
		r.mount = rest == ""
	default:
		r.unwrap = true
		r.read, r.list = path.Join(at[1:], "data", sub), path.Join(at[1:], "metadata", sub)
	}
	return r
}

// A secret is one that was read.
type secret struct {
	name string
	data map[string]any
}

// walk lists what is below r and reads it.
func (s *Store) walk(ctx context.Context, r root, whole bool) (found []secret, err error) {
	leaveOut := func(err error) bool { return status(err) == http.StatusForbidden && !whole }
	names, folders := []string{""}, []string{""}
	listed := true // the root may be
	for len(folders) > 0 {
		folder := folders[0]
		folders = folders[1:]
		below, err := s.list(ctx, path.Join(r.list, folder))
		if err != nil {
			switch {
			case !leaveOut(err):
				return nil, err
			case folder == "":
				listed = false
			default:
				s.tell(path.Join(r.name, folder), leftOut)
			}
			continue
		}
		for _, name := range below {
			dir := strings.HasSuffix(name, "/")
			name = path.Join(folder, name)
			if dir || !r.kv {
				folders = append(folders, name)
			}
			if !dir {
				names = append(names, name)
			}
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var errs []error
	slots := make(chan struct{}, atOnce)
	for _, name := range names {
		if name == "" && r.mount && r.kv {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			data, err := s.one(ctx, path.Join(r.read, name), r.unwrap)
			mu.Lock()
			defer mu.Unlock()
			full := path.Join(r.name, name)
			switch {
			case err == nil && data != nil:
				found = append(found, secret{full, data})
			case err == nil:
			case name == "" && strings.Contains(err.Error(), "no handler for route"):
				errs = append(errs, fmt.Errorf("key %q: %w: %w", r.name, noMountError{}, err))
			case name == "" && leaveOut(err) && listed && len(names) > 1:
				// Who may read what lies below a prefix gets that.
			case name == "" && status(err) == http.StatusForbidden:
				errs = append(errs, fmt.Errorf("key %q: %w", r.name, err))
			case leaveOut(err):
				s.tell(full, leftOut)
			default:
				errs = append(errs, fmt.Errorf("key %q: %w", full, err))
			}
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
		return nil, errs[0] // the same for the same thing
	}
	return found, nil
}

const leftOut = "it may not be read with this token and is left out"

// list returns the names in a folder, those of folders with a slash behind.
func (s *Store) list(ctx context.Context, at string) (names []string, err error) {
	err = s.do(ctx, func(ctx context.Context, c *api.Client) error {
		found, err := c.Logical().ListWithContext(ctx, at)
		if err != nil || found == nil {
			return nothing(err)
		}
		keys, _ := found.Data["keys"].([]any)
		names = nil
		for _, key := range keys {
			if name, ok := key.(string); ok {
				names = append(names, name)
			}
		}
		return nil
	})
	return names, err
}

// one reads a secret; nil is none.
func (s *Store) one(ctx context.Context, at string, unwrap bool) (data map[string]any, err error) {
	if data, ok := s.kept(at); ok {
		return data, nil // no KV engine's: those lease nothing
	}
	err = s.do(ctx, func(ctx context.Context, c *api.Client) error {
		answer, err := c.Logical().ReadRawWithContext(ctx, at)
		if answer != nil {
			defer answer.Body.Close()
		}
		if err != nil {
			return nothing(err)
		}
		found, err := api.ParseSecret(answer.Body)
		if err != nil || found == nil {
			return err
		}
		data = found.Data
		if found.LeaseID != "" {
			s.keepFor(at, data, found.LeaseDuration)
		}
		return nil
	})
	if unwrap && data != nil {
		data, _ = data["data"].(map[string]any) // nil: it was deleted
	}
	return data, err
}

// nothing is err, but nil where it says only that nothing is there: there may
// still be an answer why.
func nothing(err error) error {
	said, ok := errors.AsType[*api.ResponseError](err)
	if ok && (said.StatusCode == http.StatusNotFound && !strings.Contains(err.Error(), "no handler for route") || said.StatusCode == http.StatusMethodNotAllowed) {
		return nil
	}
	return err
}

// keys are those of secrets. Of two of one name that of a secret counts, then the
// field of the one with the longer name.
func (s *Store) keys(all []secret) (kvs []backends.KV) {
	slices.SortFunc(all, func(a, b secret) int {
		return cmp.Or(cmp.Compare(len(b.name), len(a.name)), cmp.Compare(a.name, b.name))
	})
	var fields []backends.KV
	for _, found := range all {
		if text, ok := found.data["value"].(string); ok && len(found.data) == 1 {
			kvs = append(kvs, backends.KV{Key: found.name, Value: text})
			continue
		}
		text, err := json.Marshal(found.data)
		if err != nil {
			s.tell(found.name, err.Error())
			continue
		}
		kvs = append(kvs, backends.KV{Key: found.name, Value: string(text)})
		fields = s.fields(fields, found.name, found.data)
	}
	return append(kvs, fields...)
}

// fields appends those of data, which is at name, as keys of their own.
func (s *Store) fields(kvs []backends.KV, name string, data map[string]any) []backends.KV {
	for field, value := range data {
		key := path.Join(name, field)
		switch value := value.(type) {
		case string:
			kvs = append(kvs, backends.KV{Key: key, Value: value})
		case map[string]any:
			kvs = s.fields(kvs, key, value)
		default:
			s.tell(key, fmt.Sprintf("type of '%s' is not supported (%T)", key, value))
		}
	}
	return kvs
}
