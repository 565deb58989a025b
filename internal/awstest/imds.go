package awstest

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// IMDS is an instance's metadata service in memory, of version 2: every request
// needs a token. It is served by a [Server] like a service, but nothing is signed.
type IMDS struct {
	mu     sync.Mutex // guards what follows
	values map[string]string
	tokens map[string]bool
}

// NewIMDS is one without metadata.
func NewIMDS() *IMDS { return &IMDS{values: make(map[string]string), tokens: make(map[string]bool)} }

// Put makes or changes what lies at /latest + key.
func (m *IMDS) Put(key, value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[strings.TrimPrefix(key, "/")] = value
}

// Delete removes it, if it is there.
func (m *IMDS) Delete(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, strings.TrimPrefix(key, "/"))
}

// Role gives the instance a role with credentials that last an hour.
func (m *IMDS) Role(name string, c Credentials) {
	m.Put("/meta-data/iam/security-credentials/"+name, fmt.Sprintf(
		`{"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": %q, "SecretAccessKey": %q, "Token": %q, "LastUpdated": %q, "Expiration": %q}`,
		c.AccessKey, c.Secret, c.Token, time.Now().UTC().Format(time.RFC3339), time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))
}

// Revoke makes all tokens invalid, as a restart does.
func (m *IMDS) Revoke() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.tokens)
}

// Name is that of the service.
func (m *IMDS) Name() string { return "imds" }

// Serve is of services that are asked by operations.
func (m *IMDS) Serve(op string, _ []byte, _ *http.Request) (any, *Error) { return nil, unknown(op) }

// ServeHTTP answers as the metadata service does.
func (m *IMDS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	path, ok := strings.CutPrefix(r.URL.Path, "/latest/")
	ttl, _ := strconv.Atoi(r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds"))
	switch {
	case r.Method == http.MethodPut && path == "api/token" && ttl > 0:
		token := rand.Text()
		m.tokens[token] = true
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", strconv.Itoa(ttl))
		fmt.Fprint(w, token)
	case !m.tokens[r.Header.Get("X-Aws-Ec2-Metadata-Token")]:
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
	case r.Method != http.MethodGet || !ok:
		http.Error(w, "Not Found", http.StatusNotFound)
	default:
		m.get(w, path)
	}
}

// get answers with a value, or the list of what lies below path.
func (m *IMDS) get(w http.ResponseWriter, path string) {
	if value, ok := m.values[strings.TrimSuffix(path, "/")]; ok && !strings.HasSuffix(path, "/") {
		fmt.Fprint(w, value)
		return
	}
	below := strings.TrimSuffix(path, "/") + "/"
	var names []string
	for key := range m.values {
		rest, ok := strings.CutPrefix(key, below)
		if !ok {
			continue
		}
		name, _, folder := strings.Cut(rest, "/")
		switch {
		case below == "meta-data/public-keys/":
			name += "=my-key" // and the folder is 0/
		case folder:
			name += "/"
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		http.Error(w, "Not Found", http.StatusNotFound)
		return
	}
	slices.Sort(names)
	fmt.Fprint(w, strings.Join(slices.Compact(names), "\n")) // no line's end behind the last
}
