package rancher

import (
	"strings"
	"testing"
)

func TestKeys(t *testing.T) {
	for _, c := range []struct{ name, document, want string }{
		{"scalars", `{"s":"x","i":42,"f":2.50,"t":true,"n":null,"e":""}`, "/k/e= /k/f=2.5 /k/i=42 /k/n=null /k/s=x /k/t=true"},
		{"numbers", `[3306, 12345678901234567890123, -7, 2e2, 1e400, 0.000001]`, "/k/0=3306 /k/1=12345678901234567890123 /k/2=-7 /k/3=200 /k/4=1e400 /k/5=0.000001"},
		{"levels", `{"a":{"b":{"c":1}},"l":["x",["y"]]}`, "/k/a/b/c=1 /k/l/0=x /k/l/1/0=y"},
		{"names", `[{"name":"web","ip":"a"},{"ip":"b"},{"name":7,"ip":"c"}]`, "/k/1/ip=b /k/2/ip=c /k/2/name=7 /k/web/ip=a /k/web/name=web"},
		{"one name twice", `[{"name":"w","uuid":"2","x":"second"},{"name":"w","uuid":"1","x":"first","only":"1"}]`, "/k/w/name=w /k/w/only=1 /k/w/uuid=2 /k/w/x=second"},
		{"one name twice, in the other order", `[{"name":"w","uuid":"1","x":"first","only":"1"},{"name":"w","uuid":"2","x":"second"}]`, "/k/w/name=w /k/w/only=1 /k/w/uuid=2 /k/w/x=second"},
		{"nothing", `{"a":{},"l":[]}`, ""},
		{"a scalar", `"x"`, "/k=x"},
	} {
		kvs, err := keys("/k/", []byte(c.document))
		var got []string
		for _, kv := range kvs {
			got = append(got, kv.Key+"="+kv.Value)
		}
		if text := strings.Join(got, " "); err != nil || text != c.want {
			t.Errorf("%s: got %s, %v, want %s", c.name, text, err, c.want)
		}
	}
}
