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

// funcs are the functions of a template that sees keys: the key functions come
// from memkv, the others are confd's, name by name.
func funcs(keys map[string]string) gotemplate.FuncMap {
	s := memkv.New()
	for key, value := range keys {
		s.Set(key, value)
	}
	f := gotemplate.FuncMap{
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
		"parseBool":      strconv.ParseBool,
		"reverse":        reverse,
		"sortByLength":   sortByLength,
		"sortKVByLength": sortKVByLength,
		"add":            func(a, b int) int { return a + b },
		"sub":            func(a, b int) int { return a - b },
		"mul":            func(a, b int) int { return a * b },
		"div":            func(a, b int) int { return a / b }, // the template turns a panic into an error
		"mod":            func(a, b int) int { return a % b },
		"seq":            seq,
		"atoi":           strconv.Atoi,
	}
	for name, fn := range s.FuncMap {
		f[name] = fn
	}
	// memkv finds only the leaves at the top, and no folders.
	f["ls"] = func(p string) []string {
		if p == "/" {
			return top(slices.Collect(maps.Keys(keys)), func(string) bool { return true })
		}
		return s.List(p)
	}
	f["lsdir"] = func(p string) []string {
		if p == "/" {
			return top(slices.Collect(maps.Keys(keys)), func(below string) bool { return below != "" })
		}
		return s.ListDir(p)
	}
	return f
}

// top lists the first elements of names, of which keep likes what is below.
func top(names []string, keep func(below string) bool) []string {
	list := []string{}
	for _, name := range names {
		name, below, _ := strings.Cut(strings.TrimPrefix(name, "/"), "/")
		if name != "" && keep(below) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
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
