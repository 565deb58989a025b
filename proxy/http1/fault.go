package http1

import "strconv"

// A Fault is what is wrong with a message; zero: nothing. It is an error.
type Fault uint8

// The faults. Each is a rule of which [Fault.Reason] says what it wants.
const (
	_ Fault = iota

	// Of a line, in a head or a trailer section.
	LineEnd      // not CRLF
	FieldName    // no token, or nothing, before the colon
	FieldColon   // none, or white space before it
	FieldFolded  // a line that begins with white space
	FieldValue   // a control byte in it
	HeadTooLarge // over Limits.Head
	ManyFields   // over Limits.Fields

	// Of a request's first line.
	NotHTTP       // the first byte can't begin a request
	EmptyLines    // too many before the request
	RequestLine   // not three parts with single spaces
	Version       // not HTTP/ DIGIT . DIGIT
	OtherVersion  // of HTTP, not 1
	Method        // no token
	MethodLong    // over 64 bytes
	MethodDenied  // CONNECT
	TargetLong    // over Limits.Target
	TargetForm    // none of those that are served
	TargetByte    // one that a target can't have
	TargetEscape  // not two hex digits, or a NUL, in the path
	TargetDots    // a segment . or ..
	TargetAnother // authority: not as Host says

	// Of a request's fields.
	HostMissing
	HostTwice
	HostValue
	Nominations     // Connection names too many fields
	FieldUnderscore // a name with "_", where Rules refuse it
	Expectation     // other than 100-continue

	// Of framing.
	Length         // Content-Length is no number
	LengthTwice    // more than one Content-Length
	LengthAndCoded // Content-Length beside Transfer-Encoding
	Coding         // Transfer-Encoding is not chunked
	CodingUnknown  // chunked behind a coding that is not done here
	CodingVersion  // Transfer-Encoding in HTTP/1.0

	// Of a chunked body.
	ChunkSize  // not hex digits, or too large
	ChunkExt   // a chunk extension that is none
	ChunkEnd   // data without CRLF behind it
	ChunkLine  // too long
	ChunkWaste // too many bytes of framing

	BodyLarge // more content than its receiver wants

	// Of an answer.
	StatusLine

	numFaults
)

const (
	syntax = "http_request_error"
	denied = "http_request_denied"
)

var faults = [numFaults]struct {
	status int
	kind   string
	reason string
}{
	LineEnd:         {400, syntax, "A line does not end in CRLF, or has a carriage return in it."},
	FieldName:       {400, syntax, "The name of a field is malformed."},
	FieldColon:      {400, syntax, "A field has no colon behind its name."},
	FieldFolded:     {400, syntax, "A field line begins with white space."},
	FieldValue:      {400, syntax, "The value of a field has a control byte."},
	HeadTooLarge:    {431, denied, "The head is too large."},
	ManyFields:      {431, denied, "The head has too many fields."},
	NotHTTP:         {400, syntax, "This is not HTTP."},
	EmptyLines:      {400, syntax, "There are too many empty lines before the request."},
	RequestLine:     {400, syntax, "The request line is malformed."},
	Version:         {400, syntax, "The version of HTTP is malformed."},
	OtherVersion:    {505, syntax, "This version of HTTP is not spoken here."},
	Method:          {400, syntax, "The method is malformed."},
	MethodLong:      {501, denied, "The method is too long."},
	MethodDenied:    {405, denied, "The method is not allowed here."},
	TargetLong:      {414, denied, "The target of the request is too long."},
	TargetForm:      {400, syntax, "The target of the request is in no form that is served here."},
	TargetByte:      {400, denied, "The target of the request has a byte that is not accepted."},
	TargetEscape:    {400, denied, "The path of the request has an escape that is not accepted."},
	TargetDots:      {400, denied, "The path of the request has a dot segment."},
	TargetAnother:   {400, denied, "The target of the request and its Host differ."},
	HostMissing:     {400, syntax, "The request has no Host."},
	HostTwice:       {400, syntax, "The request has more than one Host."},
	HostValue:       {400, syntax, "The Host is malformed."},
	FieldUnderscore: {400, denied, "The name of a field has an underscore."},
	Nominations:     {400, denied, "Connection names too many fields."},
	Expectation:     {417, denied, "Only the expectation 100-continue is met here."},
	Length:          {400, syntax, "The Content-Length is malformed."},
	LengthTwice:     {400, syntax, "There is more than one Content-Length."},
	LengthAndCoded:  {400, syntax, "There is a Content-Length beside a Transfer-Encoding."},
	Coding:          {400, syntax, "The Transfer-Encoding is not chunked."},
	CodingUnknown:   {501, denied, "The Transfer-Encoding has a coding that is not done here."},
	CodingVersion:   {400, syntax, "There is a Transfer-Encoding in a version of HTTP without it."},
	ChunkSize:       {400, syntax, "The size of a chunk is malformed."},
	ChunkExt:        {400, syntax, "The extension of a chunk is malformed."},
	ChunkEnd:        {400, syntax, "A chunk does not end where its size says."},
	ChunkLine:       {400, syntax, "The size line of a chunk is too long."},
	ChunkWaste:      {400, denied, "The body is made of too many small chunks with long size lines."},
	BodyLarge:       {413, denied, "The body of the request is too large."},
	StatusLine:      {502, "http_protocol_error", "The status line is malformed."},
}

// Status is what a client is answered whose request has the fault. For one in
// an endpoint's answer it is 502, whatever the fault.
func (f Fault) Status() int { return faults[f].status }

// Kind is the error type of Proxy-Status (RFC 9209) for a fault in a request.
func (f Fault) Kind() string { return faults[f].kind }

// Reason says it in one sentence, without a byte of the message.
func (f Fault) Reason() string { return faults[f].reason }

func (f Fault) Error() string {
	if f == 0 || f >= numFaults {
		return "http1: fault " + strconv.Itoa(int(f))
	}
	return "http1: " + faults[f].reason
}
