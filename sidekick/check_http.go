package sidekick

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxBody is how much of an answer is searched for the text of body=, in bytes.
const maxBody = 64 << 10

// An httpCheck is one GET and what its answer has to be.
type httpCheck struct {
	req    *http.Request
	client *http.Client
	status []statusRange
	want   string // of the status, for people
	body   []byte // has to be in the answer's; empty: anything goes
}

type statusRange struct{ from, to int }

var anyGoodStatus = []statusRange{{200, 399}}

// parseHTTP reads PATH and the fields behind it: status=200-299,304 body=TEXT
// host=NAME tls=verify. TEXT may stand in double quotes.
func parseHTTP(scheme, text, addr string) (func(context.Context) error, error) {
	path, rest, _ := strings.Cut(text, " ")
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") {
		return nil, fmt.Errorf("want %s:/PATH, asked of the announced address", scheme)
	}
	req, err := http.NewRequest(http.MethodGet, scheme+"://"+addr+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "muster-sidekick")
	c := httpCheck{req: req, status: anyGoodStatus, want: "200 to 399"}
	fields, err := parseFields(rest)
	if err != nil {
		return nil, err
	}
	verify := false
	for _, f := range fields {
		switch {
		case f.name == "status":
			c.want = f.value
			c.status, err = parseStatus(f.value)
		case f.name == "body" && f.value != "":
			c.body = []byte(f.value)
		case f.name == "host" && f.value != "":
			req.Host = f.value
		case f.name == "tls" && f.value == "verify" && scheme == "https":
			verify = true
		default:
			err = fmt.Errorf("field %s=%q: want status=200-299, body=TEXT, host=NAME, or tls=verify for https", f.name, f.value)
		}
		if err != nil {
			return nil, err
		}
	}
	c.client = newCheckClient(req.URL.Hostname(), req.Host, verify)
	return c.run, nil
}

// newCheckClient makes a new connection each time, as a client that never came
// before would, and follows no redirect. Unless it is to verify, it takes any
// certificate: the check asks whether the app answers, it tells it no secret,
// and at a bare address few certificates could be verified.
func newCheckClient(name, host string, verify bool) *http.Client {
	if u, err := url.Parse("//" + host); err == nil && u.Hostname() != "" {
		name = u.Hostname()
	}
	return &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			ForceAttemptHTTP2: true,
			TLSClientConfig:   &tls.Config{ServerName: name, InsecureSkipVerify: !verify},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (c *httpCheck) run(ctx context.Context) error {
	resp, err := c.client.Do(c.req.WithContext(ctx))
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			return u.Err // the rest of it repeats the check
		}
		return err
	}
	defer resp.Body.Close()
	if !slices.ContainsFunc(c.status, func(r statusRange) bool { return r.from <= resp.StatusCode && resp.StatusCode <= r.to }) {
		return fmt.Errorf("got status %d: want %s", resp.StatusCode, c.want)
	}
	if len(c.body) == 0 {
		return nil
	}
	got, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("body: %w", err)
	}
	if !bytes.Contains(got, c.body) {
		return fmt.Errorf("got a body of %d bytes that begins with %q: want %q in it", len(got), got[:min(len(got), 100)], c.body)
	}
	return nil
}

// parseStatus reads 200-299,304.
func parseStatus(text string) (ranges []statusRange, err error) {
	for part := range strings.SplitSeq(text, ",") {
		low, high, ok := strings.Cut(part, "-")
		if !ok {
			high = low
		}
		from, err1 := strconv.Atoi(low)
		to, err2 := strconv.Atoi(high)
		if err1 != nil || err2 != nil || from < 100 || to < from || to > 599 {
			return nil, fmt.Errorf("status %q: want codes from 100 to 599 such as 200-299,304", text)
		}
		ranges = append(ranges, statusRange{from, to})
	}
	return ranges, nil
}

// A field is NAME=VALUE.
type field struct{ name, value string }

// parseFields reads fields with spaces between them. A value that has spaces
// stands in double quotes, as Go writes text.
func parseFields(text string) (fields []field, err error) {
	for {
		text = strings.TrimLeft(text, " ")
		if text == "" {
			return fields, nil
		}
		name, rest, ok := strings.Cut(text, "=")
		if !ok || name == "" || strings.Contains(name, " ") {
			return nil, fmt.Errorf("%q: want NAME=VALUE behind the path, such as status=200-299", text)
		}
		var value string
		if quoted, err := strconv.QuotedPrefix(rest); err == nil && quoted[0] == '"' {
			value, _ = strconv.Unquote(quoted)
			text = rest[len(quoted):]
			if text != "" && text[0] != ' ' {
				return nil, fmt.Errorf("field %s=%s: want a space behind the quotes", name, rest)
			}
		} else if strings.HasPrefix(rest, `"`) {
			return nil, fmt.Errorf("field %s=%s: the quotes don't end", name, rest)
		} else {
			value, text, _ = strings.Cut(rest, " ")
		}
		fields = append(fields, field{name, value})
	}
}

// declaredPath is the path that a balancer can ask in place of the check:
// balancers know neither another host nor other statuses.
func declaredPath(spec string) (path string, ok bool) {
	rest, ok := strings.CutPrefix(spec, "http:")
	if !ok {
		return "", false
	}
	path, rest, _ = strings.Cut(rest, " ")
	fields, err := parseFields(rest)
	special := func(f field) bool { return f.name == "status" || f.name == "host" }
	return path, err == nil && !slices.ContainsFunc(fields, special)
}
