package drivertest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	proxyStatus = regexp.MustCompile(`^muster; error=([a-z_]+); details="[^"\\]*"$`)
	dateField   = regexp.MustCompile(`^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d GMT$`)
)

// expectAnswer reads an answer that the proxy made itself: its status, then
// maybe the error that Proxy-Status names, then maybe "head" where it has no
// body.
func (w *wire) expectAnswer(close bool, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("want a status")
	}
	got, err := w.head()
	if err != nil {
		return err
	}
	code := strconv.Itoa(got.status())
	right := slices.Contains(strings.Split(args[0], "|"), code) || w.rig.peer && code[0] == '4' && args[0][0] == '4'
	if !right {
		return fmt.Errorf("got %q %v, want %s", got.start, got.fields, args[0])
	}
	if w.rig.peer {
		return w.peerAnswer(got, close, slices.Contains(args, "head"))
	}
	field := func(name string) string { return strings.Join(got.fields[name], ", ") }
	m := proxyStatus.FindStringSubmatch(field("proxy-status"))
	switch {
	case m == nil:
		return fmt.Errorf("Proxy-Status %q, want muster's", field("proxy-status"))
	case len(args) > 1 && args[1] != "head" && args[1] != m[1]:
		return fmt.Errorf("Proxy-Status has error=%s, want %s", m[1], args[1])
	case !dateField.MatchString(field("date")):
		return fmt.Errorf("the Date is %q", field("date"))
	case field("cache-control") != "no-store":
		return fmt.Errorf("Cache-Control %q, want no-store", field("cache-control"))
	case field("content-type") != "text/plain; charset=utf-8":
		return fmt.Errorf("Content-Type %q, want text/plain; charset=utf-8", field("content-type"))
	case !requestID.MatchString(field("x-request-id")):
		return fmt.Errorf("X-Request-Id %q, want 32 hexadecimal digits", field("x-request-id"))
	case close && field("connection") != "close", !close && got.fields["connection"] != nil:
		return fmt.Errorf("the Connection is %q, want close: %t", field("connection"), close)
	case got.fields["server"] != nil:
		return fmt.Errorf("a Server %q, want none", field("server"))
	case got.fields["content-length"] == nil:
		return fmt.Errorf("no Content-Length in %v", got.fields)
	case args[0] == "405" && field("allow") == "":
		return fmt.Errorf("no Allow")
	}
	for name := range got.fields {
		if !slices.Contains(answerFields, name) {
			return fmt.Errorf("%s %q, want no such field", name, field(name))
		}
	}
	if err := w.answerBody(field("x-request-id"), slices.Contains(args, "head")); err != nil {
		return err
	}
	if close {
		return w.expectOver("closed")
	}
	return nil
}

// answerFields are those that an error answer may have.
var answerFields = []string{
	"proxy-status", "date", "cache-control", "content-type", "content-length", "x-request-id", "connection", "allow", "retry-after", "upgrade",
}

// answerBody reads the reason that an error answer gives.
func (w *wire) answerBody(id string, head bool) error {
	if head {
		w.body = none
		return nil
	}
	text, err := w.data(int(w.left))
	if err == nil && (!strings.Contains(text, id) || strings.ContainsAny(text, "<>&/")) {
		err = fmt.Errorf("error answer %q, want the request's id in it, and nothing that came from outside", text)
	}
	return err
}
