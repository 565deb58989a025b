// Package drivertest is the contract of the proxy's drivers as a test suite:
// HTTP/1.1 through real sockets, byte for byte. It knows no driver: whoever runs
// it says how a proxy is started.
//
//	func TestDriver(t *testing.T) {
//		drivertest.Run(t, start, drivertest.ReadNotYet(t, "testdata/driver-not-yet.txt"))
//	}
//
// Every file below testdata is a case: what a client sends and gets, and what an
// origin behind the proxy gets and sends, in the order in which it happens. The
// folders are the subjects; a file is named for the text that rules it, such as
// 9112-6.1-cl-and-te.
//
//	# What the case shows, in one sentence.
//	listener timeout.body = "100ms"
//
//	C> POST / HTTP/1.1
//	C> Host: a.test
//	C> Content-Length: 5
//	C>
//	C> he\
//
//	O< POST / HTTP/1.1
//	O< Host: a.test
//	O< Content-Length: 5
//	O<
//	O< he\
//
//	C refused 408
//	O cut
//
// # Settings
//
// A case begins with its settings. The rest is as muster comes, with one
// listener and one service, web, whose only endpoint is the origin.
//
//	listener KEY = VALUE   a line of [[listener]] in muster.toml; so are service and defaults
//	vary NAME: A | B       the case runs once with A and once with B for $NAME; a
//	                       second line adds to the list
//	modes plain bytes      it runs in these ways only, see below
//
// $ORIGIN is the origin's address, $DEAD one where nobody listens, $FULL one
// that answers no attempt to connect.
//
// # Bytes
//
// Lines with > are sent, in one write, by the client C or the origin O; lines
// with < must arrive there. Both end with CRLF, but not where the last character
// is a backslash. \r, \n, \t, \0, \xHH and \\ are bytes, \*N{TEXT} is TEXT N times,
// and an empty line ends a block. C2, C3, … are further clients, O2, O3, … the
// connections that the proxy opened second, third, …
//
// A head that arrives must be canonical: a well-formed start line, then
// "Name: value" lines, no name twice that may come once. Its start line and its
// fields are compared, without regard to the order of different names and the
// case of names; reasons are not compared. A field in several lines may arrive
// as one, joined with commas. Beside the fields of the case there must be:
//
//   - in a request X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host and
//     X-Request-Id, each with the right value;
//   - in an answer that is not 1xx X-Request-Id, with the value that went
//     upstream, and Date.
//
// A case that names one of them itself means what it says; "Name: *" is any
// value, "Name: ?" is any or none, and "!Name" says that the field is not there. No other field may be.
//
// A body that arrives is what the head says: it is decoded where it is chunked,
// and the lines are its data. The lines of one body may be spread over several
// blocks.
//
// # Steps
//
// A step is the name of a connection and a verb.
//
//	C fin | reset | close   ends its direction; ends the connection, with a reset
//	C pause | resume        does not read; reads again
//	C end [TRAILER | …]     the chunked body ends here, with these trailers
//	C nobody                the head that came has no body, whatever it says: an answer to HEAD
//	C tunnel                from here on it is bytes
//	C closed | broken       nothing more came, and the connection ended; with a reset
//	C gone                  either of them
//	C cut                   either of them, inside a message
//	C unfinished            the same, and more of the body may come before
//	C discard               whatever comes from here on does not matter
//	C refused CODE [ERROR]  an answer made by the proxy, which says close and closes; CODE may
//	                        be 400|501, ERROR is that of Proxy-Status
//	C answered CODE [ERROR] an answer made by the proxy, which keeps the connection; "head"
//	                        behind it says that it has no body
//	C ok [On]               the origin (on connection n) answers 200 with "ok", and that comes
//	C alive [On]            a marked request, sent now, is answered as itself (by
//	                        connection n of the origin)
//
// At the end nobody may have got a byte more than the case says, and the proxy
// may have opened no connection that the case does not name.
//
// # Modes
//
// Each case runs in several ways, and has to look the same in all of them:
// plain; bytes, where every side writes one byte at a time; after, where a good
// request comes before the case, in one write with its beginning; and twice,
// where a case of one write, one answer and "C alive O" has two copies of both.
package drivertest
