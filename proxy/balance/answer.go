package balance

// A Kind is why a request got no answer from an endpoint, or not a whole one.
type Kind uint8

// The kinds, each with its answer.
const (
	OK Kind = iota // an endpoint answered

	// Not a matter of an endpoint.
	NotReady     // before the first snapshot
	NoRoute      // no route matches
	NoEndpoint   // no endpoint takes requests
	Busy         // every endpoint has as many requests as it may
	ManyConns    // the client has as many connections as it may
	BadHead      // its head is not HTTP
	BadRequest   // its body is not HTTP
	BadVersion   // of HTTP, on a connection that speaks HTTP/1
	BadTarget    // that endpoints may read otherwise than the routes do
	MethodDenied // CONNECT, TRACE
	Loop         // it was here before
	TargetLong   // over its limit
	HeadLong     // over its limit
	BodyLong     // over its limit
	BadExpect    // an expectation that can't be met
	NotDone      // a coding or method that is not implemented
	HeadTimeout  // the client was slow with its head
	BodyTimeout  // the client stopped sending its body
	ClientGone   // the client went away; nobody is left to read the answer
	Internal     // a bug of ours
	NotProxied   // the endpoint speaks a protocol that is not proxied
	NoDescriptor // out of file descriptors

	// The endpoint's doing.
	Refused        // connecting was refused
	Unroutable     // no way to the address
	NoName         // the host name can't be resolved
	ConnectTimeout // connecting took too long
	TLSFailed      // the handshake failed
	TLSCertificate // the endpoint's certificate is not trusted
	Terminated     // the connection ended before an answer
	Silent         // no answer in time
	BadResponse    // not HTTP
	HeadTooLarge   // the answer's head is over its limit
	UpgradeFailed  // a 101 that nobody asked for, or for another protocol

	// After the answer began: it is cut off, and this is only logged.
	Incomplete  // the connection ended inside the body
	ReadTimeout // silence inside the body
	BadCoding   // the body's chunks are malformed

	numKinds
)

// An Answer is what a client gets in place of an endpoint's answer.
type Answer struct {
	Status int
	Error  string // the type in Proxy-Status (RFC 9209)
	Reason string // one sentence, for people
}

var answers = [numKinds]Answer{
	OK:             {200, "", ""},
	NotReady:       {503, "destination_unavailable", "The proxy has not heard from its store yet."},
	NoRoute:        {404, "destination_not_found", "Nothing is served under this host and path."},
	NoEndpoint:     {503, "destination_unavailable", "No endpoint of the service takes requests."},
	Busy:           {503, "connection_limit_reached", "Every endpoint of the service has as many requests as it may."},
	ManyConns:      {503, "connection_limit_reached", "This client has as many connections as it may."},
	BadHead:        {400, "http_request_error", "The head of the request is malformed."},
	BadRequest:     {400, "http_request_error", "The body of the request is malformed."},
	BadVersion:     {505, "http_request_error", "This version of HTTP is not spoken here."},
	BadTarget:      {400, "http_request_denied", "The path of the request is not accepted."},
	MethodDenied:   {405, "http_request_denied", "The method is not allowed here."},
	Loop:           {508, "proxy_loop_detected", "The request has been here before."},
	TargetLong:     {414, "http_request_denied", "The target of the request is too long."},
	HeadLong:       {431, "http_request_denied", "The head of the request is too large."},
	BodyLong:       {413, "http_request_denied", "The body of the request is too large."},
	BadExpect:      {417, "http_request_denied", "The expectation of the request can't be met."},
	NotDone:        {501, "http_request_denied", "What the request asks for is not implemented."},
	HeadTimeout:    {408, "http_request_error", "The head of the request did not arrive in time."},
	BodyTimeout:    {408, "http_request_error", "The body of the request did not arrive in time."},
	ClientGone:     {499, "http_request_error", "The client went away."},
	Internal:       {500, "proxy_internal_error", "The proxy failed."},
	NotProxied:     {502, "proxy_configuration_error", "The endpoint speaks a protocol that is not proxied."},
	NoDescriptor:   {503, "proxy_internal_error", "The proxy is out of file descriptors."},
	Refused:        {502, "connection_refused", "The endpoint refused the connection."},
	Unroutable:     {502, "destination_ip_unroutable", "There is no route to the endpoint."},
	NoName:         {502, "dns_error", "The endpoint's host name could not be resolved."},
	ConnectTimeout: {504, "connection_timeout", "Connecting to the endpoint took too long."},
	TLSFailed:      {502, "tls_protocol_error", "The TLS handshake with the endpoint failed."},
	TLSCertificate: {502, "tls_certificate_error", "The endpoint's certificate is not trusted."},
	Terminated:     {502, "connection_terminated", "The endpoint closed the connection without an answer."},
	Silent:         {504, "http_response_timeout", "The endpoint did not answer in time."},
	BadResponse:    {502, "http_protocol_error", "The endpoint's answer is malformed."},
	HeadTooLarge:   {502, "http_response_header_section_size", "The head of the endpoint's answer is too large."},
	UpgradeFailed:  {502, "http_upgrade_failed", "The endpoint switched to a protocol that was not asked for."},
	Incomplete:     {502, "http_response_incomplete", "The endpoint's answer broke off."},
	ReadTimeout:    {504, "connection_read_timeout", "The endpoint fell silent inside its answer."},
	BadCoding:      {502, "http_response_transfer_coding", "The body of the endpoint's answer is malformed."},
}

var words = [numKinds]string{
	OK:             "ok",
	NotReady:       "not_ready",
	NoRoute:        "no_route",
	NoEndpoint:     "no_endpoint",
	Busy:           "busy",
	ManyConns:      "many_connections",
	BadHead:        "bad_head",
	BadRequest:     "bad_body",
	BadVersion:     "bad_version",
	BadTarget:      "bad_target",
	MethodDenied:   "method_denied",
	Loop:           "loop",
	TargetLong:     "long_target",
	HeadLong:       "long_head",
	BodyLong:       "long_body",
	BadExpect:      "bad_expectation",
	NotDone:        "not_implemented",
	HeadTimeout:    "head_timeout",
	BodyTimeout:    "body_timeout",
	ClientGone:     "client_gone",
	Internal:       "internal_error",
	NotProxied:     "not_proxied",
	NoDescriptor:   "no_descriptor",
	Refused:        "connection_refused",
	Unroutable:     "no_route_to_endpoint",
	NoName:         "unresolved_name",
	ConnectTimeout: "connect_timeout",
	TLSFailed:      "tls_failed",
	TLSCertificate: "tls_certificate",
	Terminated:     "connection_ended",
	Silent:         "response_timeout",
	BadResponse:    "bad_answer",
	HeadTooLarge:   "long_answer_head",
	UpgradeFailed:  "upgrade_failed",
	Incomplete:     "answer_cut",
	ReadTimeout:    "answer_timeout",
	BadCoding:      "answer_bad_chunks",
}

// Kinds are all there are.
func Kinds(yield func(Kind) bool) {
	for k := range numKinds {
		if !yield(k) {
			return
		}
	}
}

// String is the word for how such a request ended, in the access log and the
// metrics.
func (k Kind) String() string { return words[k] }

// OfEndpoint reports that it was the endpoint that failed, and neither the
// client nor the proxy.
func (k Kind) OfEndpoint() bool { return k >= Refused }

// KindOf returns the first kind that has that status and error type: what a
// fault is that a grammar found.
func KindOf(status int, error string) Kind {
	for k, a := range answers {
		if a.Status == status && a.Error == error {
			return Kind(k)
		}
	}
	return Internal
}

// Answer is what the client gets.
func (k Kind) Answer() Answer { return answers[k] }

// ProxyStatus is the value of the Proxy-Status field (RFC 9209).
func (a Answer) ProxyStatus() string {
	return `muster; error=` + a.Error + `; details="` + a.Reason + `"`
}
