package consul_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"muster/backends/backendtest"
)

// What a blocking query waits for is the index of the answer before it, also when
// that went back; what Consul says is zero would wait for nothing. No Consul can be
// made to do that, so this one is played:
// https://developer.hashicorp.com/consul/api-docs/features/blocking.
func TestIndexes(t *testing.T) {
	script := []int{50, 50, 10, 0, 0, 7}
	var mu sync.Mutex
	var asked []string
	more := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status/leader", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `"127.0.0.1:8300"`) })
	mux.HandleFunc("GET /v1/kv/k", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n := len(asked)
		asked = append(asked, r.FormValue("index"))
		mu.Unlock()
		if n >= len(script) {
			select {
			case <-more: // it blocks
			case <-r.Context().Done():
			}
			return
		}
		w.Header().Set("X-Consul-Index", fmt.Sprint(script[n]))
		w.Header().Set("X-Consul-LastContact", "0")
		value := base64.StdEncoding.EncodeToString([]byte(fmt.Sprint(n)))
		fmt.Fprintf(w, `[{"Key":"k","Value":%q,"CreateIndex":1,"ModifyIndex":%d}]`, value, n)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(more) })
	r := backendtest.NewReader(t, open(t, "consul://"+s.Listener.Addr().String(), nil), "/k")
	r.Has(fmt.Sprintf("/k=%d", len(script)-1))
	r.Until("the next question", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(asked) > len(script)
	})
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"", "50", "50", "10", "1", "1", "7"}; !slices.Equal(asked, want) {
		t.Errorf("asked for what is newer than %q, want %q", asked, want)
	}
	r.Counts(0, 1)
}
