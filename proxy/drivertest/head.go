package drivertest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A head is a message head as it arrived, or as a case wants it. Names are in
// lower case.
type head struct {
	start  string
	fields map[string][]string // by name, the lines in their order
	absent []string            // of a case: names that must not be there
}

var (
	requestLine = regexp.MustCompile(`^[!#$%&'*+.^_|~0-9A-Za-z` + "`" + `-]+ [!-~]+ HTTP/1\.1$`)
	statusLine  = regexp.MustCompile(`^HTTP/1\.1 [1-9][0-9]{2} `)
	fieldName   = regexp.MustCompile(`^[!#$%&'*+.^_|~0-9A-Za-z` + "`" + `-]+$`)
)

// canonicalStart reports whether a start line is as it should be.
func canonicalStart(line string, request bool) bool {
	if request {
		return requestLine.MatchString(line)
	}
	return statusLine.MatchString(line) && text(line)
}

// text reports whether s has no control bytes but tabs.
func text(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// canonicalField takes a field line apart, and reports whether it is as it
// should be: a token, a colon, at most one space, and a value without white
// space around it.
func canonicalField(line string) (name, value string, ok bool) {
	name, value, ok = strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	return strings.ToLower(name), value, ok && fieldName.MatchString(name) && text(value) && value == strings.Trim(value, " \t")
}

// single are fields that a canonical head has at most once.
var single = []string{
	"host", "content-length", "transfer-encoding", "connection", "date", "x-request-id",
	"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "upgrade", "te", "expect", "location", "content-type",
}

// parseHead reads a head that ends with an empty line, and says what about it is
// not canonical.
func parseHead(message string, request bool) (head, error) {
	lines := strings.Split(strings.TrimSuffix(message, "\r\n\r\n"), "\r\n")
	h := head{start: lines[0], fields: make(map[string][]string)}
	if !canonicalStart(h.start, request) {
		return h, fmt.Errorf("start line %q is not canonical", h.start)
	}
	for _, line := range lines[1:] {
		name, value, ok := canonicalField(line)
		if !ok {
			return h, fmt.Errorf("line %q is not canonical", line)
		}
		h.fields[name] = append(h.fields[name], value)
	}
	for _, name := range single {
		if lines := h.fields[name]; len(lines) > 1 {
			return h, fmt.Errorf("%s comes %d times: %q", name, len(lines), lines)
		}
	}
	if h.fields["content-length"] != nil && h.fields["transfer-encoding"] != nil {
		return h, fmt.Errorf("both Content-Length %q and Transfer-Encoding %q", h.fields["content-length"], h.fields["transfer-encoding"])
	}
	return h, nil
}

// parseWant reads the head that a case wants.
func parseWant(text string) (head, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\r\n"), "\r\n")
	h := head{start: lines[0], fields: make(map[string][]string)}
	for _, line := range lines[1:] {
		if name, ok := strings.CutPrefix(line, "!"); ok {
			h.absent = append(h.absent, strings.ToLower(name))
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return h, fmt.Errorf("line %q: want a field", line)
		}
		name = strings.ToLower(name)
		h.fields[name] = append(h.fields[name], strings.TrimSpace(value))
	}
	return h, nil
}

// imply adds the fields that need not be named.
func (h *head) imply(fields map[string]string) {
	for name, value := range fields {
		if h.fields[name] == nil && !slices.Contains(h.absent, name) {
			h.fields[name] = []string{value}
		}
	}
}

// status is the code of an answer.
func (h head) status() int {
	if len(h.start) < 12 {
		return 0
	}
	code, _ := strconv.Atoi(h.start[9:12])
	return code
}

// differs says where got is not as h wants it. With more it may have more fields.
func (h head) differs(got head, more bool) error {
	a, b := h.start, got.start
	if strings.HasPrefix(a, "HTTP/") && len(a) >= 12 && len(b) >= 12 {
		a, b = a[:12], b[:12] // without the reason
	}
	if a != b {
		return fmt.Errorf("got %q, want %q", got.start, h.start)
	}
	for _, name := range slices.Sorted(maps.Keys(h.fields)) {
		want, is := h.fields[name], got.fields[name]
		if want[0] == "?" {
			continue
		}
		if is == nil {
			return fmt.Errorf("no %s, want %q (got %q %v)", name, want, got.start, got.fields)
		}
		if slices.Equal(want, []string{"*"}) {
			continue
		}
		if want[0] == "*hex" {
			if !requestID.MatchString(is[0]) {
				return fmt.Errorf("%s %q, want 32 hexadecimal digits", name, is)
			}
			continue
		}
		if !slices.Equal(joined(name, want), joined(name, is)) {
			return fmt.Errorf("%s %q, want %q", name, is, want)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got.fields)) {
		if h.fields[name] == nil && (!more || slices.Contains(h.absent, name)) {
			return fmt.Errorf("%s %q, want no such field", name, got.fields[name])
		}
	}
	return nil
}

var requestID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// joined is what the lines of a field say together.
func joined(name string, lines []string) []string {
	switch name {
	case "set-cookie":
		return lines
	case "cookie":
		return []string{strings.Join(lines, "; ")}
	}
	return []string{strings.Join(lines, ", ")}
}
