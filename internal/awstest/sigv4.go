package awstest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const algorithm = "AWS4-HMAC-SHA256"

// verify checks the signature of a request as AWS does (Signature Version 4), and
// returns whose it is. known finds credentials by their access key.
func verify(r *http.Request, body []byte, service string, known func(string) (Credentials, bool)) (Credentials, *Error) {
	none := Credentials{}
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), algorithm+" ")
	if !ok {
		return none, &Error{Code: "MissingAuthenticationTokenException", Message: "Request is missing Authentication Token"}
	}
	parts := make(map[string]string)
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		parts[name] = value
	}
	scope := strings.Split(parts["Credential"], "/") // KEY/DATE/REGION/SERVICE/aws4_request
	if len(scope) != 5 || scope[4] != "aws4_request" {
		return none, &Error{Code: "IncompleteSignatureException", Message: "Credential must have exactly 5 slash-delimited elements"}
	}
	c, ok := known(scope[0])
	if !ok || c.Token != r.Header.Get("X-Amz-Security-Token") {
		return none, &Error{Code: "UnrecognizedClientException", Message: "The security token included in the request is invalid."}
	}
	if scope[2] != Region || scope[3] != service {
		return none, &Error{Code: "InvalidSignatureException", Message: fmt.Sprintf("Credential should be scoped to %s/%s, it is to %s/%s.", Region, service, scope[2], scope[3])}
	}
	when, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || !strings.HasPrefix(r.Header.Get("X-Amz-Date"), scope[1]) || time.Since(when).Abs() > 15*time.Minute {
		return none, &Error{Code: "InvalidSignatureException", Message: "Signature expired: " + r.Header.Get("X-Amz-Date") + " is not now"}
	}
	signed := strings.Split(parts["SignedHeaders"], ";")
	if !slices.Contains(signed, "host") || !slices.Contains(signed, "x-amz-date") {
		return none, &Error{Code: "InvalidSignatureException", Message: "'Host' and 'X-Amz-Date' must be signed."}
	}
	canonical := canonicalRequest(r, body, signed)
	want := hex.EncodeToString(signature(c.Secret, scope, r.Header.Get("X-Amz-Date"), canonical))
	if !hmac.Equal([]byte(want), []byte(parts["Signature"])) {
		return none, &Error{
			Code:    "InvalidSignatureException",
			Message: "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.\n\nThe Canonical String for this request should have been\n'" + canonical + "'\n",
		}
	}
	return c, nil
}

func canonicalRequest(r *http.Request, body []byte, signed []string) string {
	var headers strings.Builder
	for _, name := range signed {
		values := r.Header.Values(name)
		switch name {
		case "host":
			values = []string{r.Host}
		case "content-length":
			values = []string{fmt.Sprint(r.ContentLength)}
		}
		fmt.Fprintf(&headers, "%s:%s\n", name, strings.Join(values, ","))
	}
	hash := sha256.Sum256(body)
	return strings.Join([]string{
		r.Method, (&url.URL{Path: r.URL.Path}).EscapedPath(), r.URL.Query().Encode(), headers.String(),
		strings.Join(signed, ";"), hex.EncodeToString(hash[:]),
	}, "\n")
}

func signature(secret string, scope []string, date, canonical string) []byte {
	hash := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{algorithm, date, strings.Join(scope[1:], "/"), hex.EncodeToString(hash[:])}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range scope[1:] {
		key = sum(key, part)
	}
	return sum(key, text)
}

func sum(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
