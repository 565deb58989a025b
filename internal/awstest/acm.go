package awstest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// CertificatePrefix is what every certificate's name begins with.
const CertificatePrefix = "arn:aws:acm:" + Region + ":123456789012:certificate/"

// ACM is a Certificate Manager in memory. Its lists come in pages of ten. What it
// keeps need not be certificates.
type ACM struct {
	mu           sync.Mutex // guards what follows
	certificates map[string]Certificate
}

// A Certificate is what is kept of one.
type Certificate struct {
	Text, Chain string
	Key         string // empty: it is not to be exported
	KeyType     string // empty: RSA_2048
	Pending     bool   // not issued yet
}

// NewACM is one without certificates.
func NewACM() *ACM { return &ACM{certificates: make(map[string]Certificate)} }

// Put makes or changes a certificate; key is its ARN with a slash in front.
func (a *ACM) Put(key, value string) { a.PutCertificate(key, Certificate{Text: value}) }

// PutCertificate is Put with all that there may be.
func (a *ACM) PutCertificate(key string, c Certificate) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.certificates[strings.TrimPrefix(key, "/")] = c
}

// Delete removes a certificate, if it is there.
func (a *ACM) Delete(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.certificates, strings.TrimPrefix(key, "/"))
}

// Name is that of the service.
func (a *ACM) Name() string { return "acm" }

// Serve knows four operations.
func (a *ACM) Serve(op string, body []byte, _ *http.Request) (any, *Error) {
	var in struct {
		CertificateArn, NextToken                             string
		Passphrase, Certificate, CertificateChain, PrivateKey []byte
		Includes                                              struct{ KeyTypes []string }
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, invalid("%v", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch op {
	case "ListCertificates":
		return a.page(in.Includes.KeyTypes, in.NextToken), nil
	case "ImportCertificate":
		if in.CertificateArn == "" {
			in.CertificateArn = CertificatePrefix + "12345678-1234-1234-1234-" + strconv.Itoa(100000000000+len(a.certificates))
		}
		a.certificates[in.CertificateArn] = Certificate{Text: string(in.Certificate), Chain: string(in.CertificateChain)}
		return map[string]string{"CertificateArn": in.CertificateArn}, nil
	}
	c, ok := a.certificates[in.CertificateArn]
	answer := map[string]string{"Certificate": c.Text}
	if c.Chain != "" {
		answer["CertificateChain"] = c.Chain
	}
	switch {
	case !ok:
		return nil, &Error{Code: "ResourceNotFoundException", Message: "Could not find certificate " + in.CertificateArn + "."}
	case c.Pending:
		return nil, &Error{Code: "RequestInProgressException", Message: "The certificate request is in progress."}
	case op == "GetCertificate":
		return answer, nil
	case op == "ExportCertificate" && c.Key == "":
		return nil, invalid("The certificate %s is not a private certificate.", in.CertificateArn)
	case op == "ExportCertificate" && len(in.Passphrase) < 4:
		return nil, invalid("The passphrase must have 4 characters at least.")
	case op == "ExportCertificate":
		// As a real one it looks different each time.
		secret := c.Key + " " + rand.Text() + " " + string(in.Passphrase)
		answer["PrivateKey"] = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + base64.StdEncoding.EncodeToString([]byte(secret)) + "\n-----END ENCRYPTED PRIVATE KEY-----\n"
		return answer, nil
	}
	return nil, unknown(op)
}

func (a *ACM) page(keyTypes []string, token string) map[string]any {
	const size = 10
	if len(keyTypes) == 0 {
		keyTypes = []string{"RSA_1024", "RSA_2048"}
	}
	list := []map[string]string{}
	for _, arn := range slices.Sorted(maps.Keys(a.certificates)) {
		keyType := a.certificates[arn].KeyType
		if keyType == "" {
			keyType = "RSA_2048"
		}
		if slices.Contains(keyTypes, keyType) {
			list = append(list, map[string]string{"CertificateArn": arn})
		}
	}
	answer := map[string]any{}
	from, _ := strconv.Atoi(token) // "" is the first
	list = list[min(from, len(list)):]
	if len(list) > size {
		list = list[:size]
		answer["NextToken"] = strconv.Itoa(from + size)
	}
	answer["CertificateSummaryList"] = list
	return answer
}
