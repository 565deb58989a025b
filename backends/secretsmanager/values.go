package secretsmanager

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"muster/backends"
)

// A value is what a secret holds; its zero is that of one that is not there.
type value struct {
	key     string // of the secret
	version string
	there   bool
	text    string
}

// newValue takes what is no text as base64, as confd's fork does.
func newValue(out *secretsmanager.GetSecretValueOutput) value {
	v := value{there: true}
	if out.VersionId != nil {
		v.version = *out.VersionId
	}
	if out.SecretString != nil {
		v.text = *out.SecretString
	} else {
		v.text = base64.StdEncoding.EncodeToString(out.SecretBinary)
	}
	return v
}

// keys is what v gives as the secret of key: its text, or the fields of an object.
func (v value) keys(key string, whole bool) []backends.KV {
	if !v.there {
		return nil
	}
	if fields, ok := object(v.text); ok && !whole {
		return flatten(nil, key, fields)
	}
	return []backends.KV{{Key: key, Value: v.text}}
}

// object is text where it is one JSON object. Numbers stay as they are written.
func object(text string) (fields map[string]any, ok bool) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if d.Decode(&fields) != nil || fields == nil {
		return nil, false
	}
	_, err := d.Token()
	return fields, err == io.EOF
}

// flatten appends what lies in node: members of objects and lists are levels, null
// is nothing.
func flatten(kvs []backends.KV, key string, node any) []backends.KV {
	switch node := node.(type) {
	case nil:
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(node)) {
			kvs = flatten(kvs, key+"/"+name, node[name])
		}
	case []any:
		for i, member := range node {
			kvs = flatten(kvs, fmt.Sprintf("%s/%d", key, i), member)
		}
	default:
		kvs = append(kvs, backends.KV{Key: key, Value: fmt.Sprint(node)})
	}
	return kvs
}
