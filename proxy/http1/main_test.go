package http1_test

import (
	"fmt"
	"strings"

	"muster/proxy/http1"
)

// says is what r says, in a line.
func says(r *http1.Request, buf []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s ", r.Method.In(buf), r.Path.In(buf), r.Authority.In(buf))
	switch r.Body {
	case http1.None:
		b.WriteString("none")
	case http1.Sized:
		fmt.Fprint(&b, r.Length)
	case http1.Chunked:
		b.WriteString("chunked")
	}
	for _, s := range []struct {
		is   bool
		text string
	}{
		{r.Minor == 0, " 1.0"},
		{r.Asterisk, " asterisk"},
		{r.Final, " final"},
		{r.Trace, " trace"},
		{r.Close, " close"},
		{r.KeepAlive, " keep-alive"},
		{r.Expect, " expect"},
		{r.Trailers, " trailers"},
		{r.Upgrade.Len() > 0, " upgrade"},
	} {
		if s.is {
			b.WriteString(s.text)
		}
	}
	return b.String()
}

// answers is what r says, in a line.
func answers(r *http1.Response, buf []byte) string {
	body := [...]string{"none", "sized", "chunked", "until close"}[r.Body]
	text := fmt.Sprintf("%d %q %s %d", r.Status, r.Reason.In(buf), body, r.Length)
	for _, s := range []struct {
		is   bool
		text string
	}{
		{r.Minor == 0, " 1.0"},
		{r.Close, " close"},
		{r.Events, " events"},
		{r.Upgrade.Len() > 0, " upgrade"},
	} {
		if s.is {
			text += s.text
		}
	}
	return text
}

var hop = &http1.Hop{Client: "192.0.2.1", Scheme: "http", Host: "endpoint:81", RequestID: []byte("id")}

// forward is the head that goes to an endpoint for text.
func forward(text string) (string, http1.Fault) {
	var r http1.Request
	buf := []byte(text)
	n, f := r.Parse(buf, requestLimits)
	if f != 0 || n == 0 {
		return "", f
	}
	return string(r.AppendHead(nil, buf, hop)), 0
}
