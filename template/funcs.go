package template

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"
	gotemplate "text/template"
	"time"

	"github.com/kelseyhightower/memkv"
)

// funcs are the functions of a template that sees names. The key functions are
// memkv's behind a tree, the others are confd's, name by name; those of its
// fork come first, so that they replace none.
func (e *Engine) funcs(names *tree) gotemplate.FuncMap {
	f := moreFuncs()
	f["include"] = (&includer{engine: e, names: names}).include
	maps.Copy(f, gotemplate.FuncMap{
		"exists": names.exists,
		"get":    names.get,
		"gets":   names.gets,
		"getv":   names.getv,
		"getvs":  names.getvs,
		"ls":     names.ls,
		"lsdir":  names.lsdir,

		"base":           path.Base,
		"dir":            path.Dir,
		"split":          strings.Split,
		"join":           strings.Join,
		"toUpper":        strings.ToUpper,
		"toLower":        strings.ToLower,
		"contains":       strings.Contains,
		"replace":        strings.Replace,
		"trimSuffix":     strings.TrimSuffix,
		"json":           jsonMap,
		"jsonArray":      jsonArray,
		"map":            newMap,
		"getenv":         getenv,
		"datetime":       time.Now,
		"lookupIP":       lookupIP,
		"lookupIPV4":     lookupIPV4,
		"lookupIPV6":     lookupIPV6,
		"lookupSRV":      lookupSRV,
		"fileExists":     fileExists,
		"base64Encode":   base64Encode,
		"base64Decode":   base64Decode,
		"parseBool":      parseBool,
		"reverse":        reverse,
		"sortByLength":   sortByLength,
		"sortKVByLength": sortKVByLength,
		"add":            func(a, b int) int { return a + b },
		"sub":            func(a, b int) int { return a - b },
		"mul":            func(a, b int) int { return a * b },
		"div":            func(a, b int) int { return a / b }, // the template turns a panic into an error
		"mod":            func(a, b int) int { return a % b },
		"seq":            seq,
		"atoi":           atoi,
	})
	return f
}

func jsonMap(s string) (map[string]any, error) {
	var m map[string]any
	err := json.Unmarshal([]byte(s), &m)
	return m, err
}

func jsonArray(s string) ([]any, error) {
	var l []any
	err := json.Unmarshal([]byte(s), &l)
	return l, err
}

func newMap(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, errors.New("invalid map call")
	}
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		key, ok := pairs[i].(string)
		if !ok {
			return nil, errors.New("map keys must be strings")
		}
		m[key] = pairs[i+1]
	}
	return m, nil
}

// getenv takes an empty variable as one that is not set.
func getenv(name string, fallback ...string) string {
	if v := os.Getenv(name); v != "" || len(fallback) == 0 {
		return v
	}
	return fallback[0]
}

// The look-ups give nothing when they fail: a template renders without DNS.

func lookupIP(host string) []string {
	var addrs []string
	ips, _ := net.LookupIP(host)
	for _, ip := range ips {
		addrs = append(addrs, ip.String())
	}
	slices.Sort(addrs)
	return addrs
}

func lookupIPV4(host string) []string {
	return slices.DeleteFunc(lookupIP(host), func(a string) bool { return !strings.Contains(a, ".") })
}

func lookupIPV6(host string) []string {
	return slices.DeleteFunc(lookupIP(host), func(a string) bool { return !strings.Contains(a, ":") })
}

func lookupSRV(service, proto, name string) []*net.SRV {
	_, records, err := net.LookupSRV(service, proto, name)
	if err != nil {
		return []*net.SRV{}
	}
	text := func(r *net.SRV) string {
		return fmt.Sprintf("%s%d%d%d", r.Target, r.Port, r.Priority, r.Weight)
	}
	slices.SortFunc(records, func(a, b *net.SRV) int { return strings.Compare(text(a), text(b)) })
	return records
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return !os.IsNotExist(err)
}

func base64Encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func base64Decode(s string) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(s)
	return string(raw), err
}

func atoi(s string) (int, error) {
	n, err := strconv.Atoi(s)
	return n, withoutValue(err)
}

func parseBool(s string) (bool, error) {
	b, err := strconv.ParseBool(s)
	return b, withoutValue(err)
}

// withoutValue leaves out what strconv could not read: the value of a key may be
// a secret, and the error goes to the log.
func withoutValue(err error) error {
	if e := (*strconv.NumError)(nil); errors.As(err, &e) {
		return fmt.Errorf("strconv.%s: %w", e.Func, e.Err)
	}
	return err
}

// reverse turns a copy around, of texts or of pairs; anything else stays.
func reverse(values any) any {
	switch v := values.(type) {
	case []string:
		v = slices.Clone(v)
		slices.Reverse(v)
		return v
	case []memkv.KVPair:
		v = slices.Clone(v)
		slices.Reverse(v)
		return v
	case memkv.KVPairs:
		v = slices.Clone(v)
		slices.Reverse(v)
		return v
	}
	return values
}

func sortByLength(values []string) []string {
	sort.SliceStable(values, func(i, j int) bool { return len(values[i]) < len(values[j]) })
	return values
}

func sortKVByLength(pairs []memkv.KVPair) []memkv.KVPair {
	sort.SliceStable(pairs, func(i, j int) bool { return len(pairs[i].Key) < len(pairs[j].Key) })
	return pairs
}

// seq is the whole numbers from first to last, none if last is less.
func seq(first, last int) []int {
	var numbers []int
	for i := first; i <= last; i++ {
		numbers = append(numbers, i)
	}
	return numbers
}
