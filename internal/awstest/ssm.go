package awstest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// SSM is a Parameter Store in memory. Its lists come in pages of ten and fewer,
// and one of them is empty, as AWS's may be.
type SSM struct {
	mu         sync.Mutex // guards what follows
	parameters map[string]parameter
}

type parameter struct {
	Name, Type, Value string
	Version           int
}

// NewSSM is one without parameters.
func NewSSM() *SSM { return &SSM{parameters: make(map[string]parameter)} }

// Put makes or changes a parameter, which is a SecureString.
func (s *SSM) Put(key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(key, "SecureString", value)
}

// Delete removes a parameter, if it is there.
func (s *SSM) Delete(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.parameters, key)
}

func (s *SSM) put(name, kind, value string) int {
	p := parameter{name, kind, value, s.parameters[name].Version + 1}
	s.parameters[name] = p
	return p.Version
}

// Name is that of the service.
func (s *SSM) Name() string { return "ssm" }

// Serve knows four operations.
func (s *SSM) Serve(op string, body []byte, _ *http.Request) (any, *Error) {
	var in struct {
		Name, Path, NextToken, Value, Type   string
		Recursive, WithDecryption, Overwrite bool
		MaxResults                           int
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, invalid("%v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch op {
	case "GetParametersByPath":
		if !strings.HasPrefix(in.Path, "/") || in.MaxResults > 10 {
			return nil, invalid("The parameter path %q must begin with a slash, MaxResults %d be 10 at most.", in.Path, in.MaxResults)
		}
		return s.page(in.Path, in.NextToken, in.Recursive, in.WithDecryption)
	case "GetParameter":
		p, ok := s.parameters[in.Name]
		if !ok {
			return nil, &Error{Code: "ParameterNotFound"}
		}
		return map[string]any{"Parameter": p.shown(in.WithDecryption)}, nil
	case "PutParameter":
		if _, ok := s.parameters[in.Name]; ok && !in.Overwrite {
			return nil, &Error{Code: "ParameterAlreadyExists", Message: "The parameter already exists."}
		}
		return map[string]any{"Version": s.put(in.Name, in.Type, in.Value), "Tier": "Standard"}, nil
	case "DeleteParameter":
		delete(s.parameters, in.Name)
		return map[string]any{}, nil
	}
	return nil, unknown(op)
}

func (s *SSM) page(path, token string, recursive, decrypt bool) (any, *Error) {
	const size = 10
	path = strings.TrimRight(path, "/") + "/"
	var names []string
	for _, name := range slices.Sorted(maps.Keys(s.parameters)) {
		rest, below := strings.CutPrefix(name, path)
		if below && (recursive || !strings.Contains(rest, "/")) {
			names = append(names, name)
		}
	}
	list := []parameter{}
	answer := map[string]any{}
	after, empty := strings.CutPrefix(token, "empty-")
	last, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(after, "next-"))
	if err != nil {
		return nil, &Error{Code: "InvalidNextToken", Message: "The specified token isn't valid."}
	}
	for _, name := range names {
		if name > string(last) && !empty {
			list = append(list, s.parameters[name].shown(decrypt))
		}
	}
	switch {
	case empty:
		answer["NextToken"] = "next-" + after
	case len(list) > size:
		list = list[:size]
		answer["NextToken"] = "empty-" + base64.RawURLEncoding.EncodeToString([]byte(list[size-1].Name))
	}
	answer["Parameters"] = list
	return answer, nil
}

func (p parameter) shown(decrypt bool) parameter {
	if p.Type == "SecureString" && !decrypt {
		p.Value = "AQICAHg" + base64.StdEncoding.EncodeToString([]byte(p.Name))
	}
	return p
}

func invalid(format string, args ...any) *Error {
	return &Error{Code: "ValidationException", Message: fmt.Sprintf(format, args...)}
}

func unknown(op string) *Error {
	return &Error{Code: "UnknownOperationException", Message: op}
}
