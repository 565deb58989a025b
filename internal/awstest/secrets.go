package awstest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Secrets is a Secrets Manager in memory. Its lists come in pages of ten.
type Secrets struct {
	mu      sync.Mutex // guards what follows
	secrets map[string]*secret
	numbers int
}

type secret struct {
	name     string
	versions map[string]version // by stage
	leaving  bool               // marked for deletion
}

type version struct {
	id, text string
	binary   []byte
}

// NewSecrets is one without secrets.
func NewSecrets() *Secrets { return &Secrets{secrets: make(map[string]*secret)} }

// Put makes or changes a secret, whose name is key without its slash in front.
func (s *Secrets) Put(key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(strings.TrimPrefix(key, "/"), version{text: value})
}

// PutBinary is Put of what is no text.
func (s *Secrets) PutBinary(key string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(strings.TrimPrefix(key, "/"), version{binary: value})
}

// Delete removes a secret, if it is there.
func (s *Secrets) Delete(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.secrets, strings.TrimPrefix(key, "/"))
}

// Leave marks a secret for deletion, as it is for some days.
func (s *Secrets) Leave(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[strings.TrimPrefix(key, "/")].leaving = true
}

func (s *Secrets) put(name string, v version) map[string]any {
	known := s.secrets[name]
	if known == nil {
		known = &secret{name: name, versions: make(map[string]version)}
		s.secrets[name] = known
	}
	s.numbers++
	v.id = fmt.Sprintf("00000000-0000-0000-0000-%012d", s.numbers)
	if before, ok := known.versions["AWSCURRENT"]; ok {
		known.versions["AWSPREVIOUS"] = before
	}
	known.versions["AWSCURRENT"] = v
	return map[string]any{"ARN": known.arn(), "Name": name, "VersionId": v.id}
}

func (k *secret) arn() string {
	return "arn:aws:secretsmanager:" + Region + ":123456789012:secret:" + k.name + "-AbCdEf"
}

// Name is that of the service.
func (s *Secrets) Name() string { return "secretsmanager" }

// Serve knows five operations.
func (s *Secrets) Serve(op string, body []byte, _ *http.Request) (any, *Error) {
	var in struct {
		Name, SecretId, SecretString, VersionStage, NextToken string
		Filters                                               []struct {
			Key    string
			Values []string
		}
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, invalid("%v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if op == "CreateSecret" {
		if s.secrets[in.Name] != nil {
			return nil, &Error{Code: "ResourceExistsException", Message: "The operation failed because the secret " + in.Name + " already exists."}
		}
		return s.put(in.Name, version{text: in.SecretString}), nil
	}
	if op == "ListSecrets" {
		var begins []string
		for _, f := range in.Filters {
			if f.Key != "name" || len(f.Values) > 10 {
				return nil, invalid("Filters: want names, and 10 values at most")
			}
			begins = append(begins, f.Values...)
		}
		return s.page(begins, in.NextToken), nil
	}
	known := s.find(in.SecretId)
	if known == nil {
		return nil, &Error{Code: "ResourceNotFoundException", Message: "Secrets Manager can't find the specified secret."}
	}
	switch op {
	case "GetSecretValue":
		v, ok := known.versions[in.VersionStage]
		switch {
		case known.leaving:
			return nil, &Error{Code: "InvalidRequestException", Message: "You can't perform this operation on the secret because it was marked for deletion."}
		case !ok:
			return nil, &Error{Code: "ResourceNotFoundException", Message: "Secrets Manager can't find the specified secret value for staging label: " + in.VersionStage}
		}
		answer := map[string]any{"ARN": known.arn(), "Name": known.name, "VersionId": v.id}
		if v.binary != nil {
			answer["SecretBinary"] = base64.StdEncoding.EncodeToString(v.binary)
		} else {
			answer["SecretString"] = v.text
		}
		return answer, nil
	case "PutSecretValue":
		return s.put(known.name, version{text: in.SecretString}), nil
	case "DeleteSecret":
		delete(s.secrets, known.name)
		return map[string]any{"ARN": known.arn(), "Name": known.name}, nil
	}
	return nil, unknown(op)
}

func (s *Secrets) find(id string) *secret {
	for _, k := range s.secrets {
		if id == k.name || id == k.arn() {
			return k
		}
	}
	return nil
}

func (s *Secrets) page(begins []string, token string) map[string]any {
	const size = 10
	list := []map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(s.secrets)) {
		k := s.secrets[name]
		if k.leaving || len(begins) > 0 && !slices.ContainsFunc(begins, func(b string) bool { return strings.HasPrefix(name, b) }) {
			continue
		}
		stages := make(map[string][]string)
		for stage, v := range k.versions {
			stages[v.id] = append(stages[v.id], stage)
		}
		list = append(list, map[string]any{"ARN": k.arn(), "Name": name, "SecretVersionsToStages": stages})
	}
	answer := map[string]any{}
	from, _ := strconv.Atoi(token) // "" is the first
	list = list[min(from, len(list)):]
	if len(list) > size {
		list = list[:size]
		answer["NextToken"] = strconv.Itoa(from + size)
	}
	answer["SecretList"] = list
	return answer
}
