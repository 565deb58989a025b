package rancher

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"muster/backends"
)

// keys takes the document at prefix apart. Members of objects are levels. So are
// those of lists, each by its "name", if it is an object that has one, or by its
// place. Of several members with one name the one with the greatest "uuid" wins,
// key by key: the service lists them in any order.
func keys(prefix string, document []byte) ([]backends.KV, error) {
	dec := json.NewDecoder(bytes.NewReader(document))
	dec.UseNumber()
	var root any
	if err := dec.Decode(&root); err != nil {
		return nil, err
	}
	found := make(map[string]string)
	walk(found, strings.TrimRight(prefix, "/"), root)
	kvs := make([]backends.KV, 0, len(found))
	for key, value := range found {
		kvs = append(kvs, backends.KV{Key: key, Value: value})
	}
	slices.SortFunc(kvs, func(a, b backends.KV) int { return cmp.Compare(a.Key, b.Key) })
	return kvs, nil
}

func walk(found map[string]string, at string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			walk(found, at+"/"+name, member)
		}
	case []any:
		for _, m := range named(v) {
			walk(found, at+"/"+m.name, m.value)
		}
	case string:
		found[at] = v
	case json.Number:
		found[at] = number(v)
	case bool:
		found[at] = strconv.FormatBool(v)
	case nil:
		found[at] = "null"
	}
}

// A member is one of a list.
type member struct {
	name, uuid string
	value      any
}

// named are the members of a list, in the order of their uuids.
func named(list []any) []member {
	all := make([]member, len(list))
	for i, value := range list {
		all[i] = member{name: strconv.Itoa(i), value: value}
		object, _ := value.(map[string]any)
		if name, ok := object["name"].(string); ok {
			all[i].name = name
			all[i].uuid, _ = object["uuid"].(string)
		}
	}
	slices.SortStableFunc(all, func(a, b member) int { return cmp.Compare(a.uuid, b.uuid) })
	return all
}

// number is n without an exponent. What is an integer stays as it is, however long.
func number(n json.Number) string {
	if !strings.ContainsAny(string(n), ".eE") {
		return string(n)
	}
	f, err := n.Float64()
	if err != nil {
		return string(n)
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}
