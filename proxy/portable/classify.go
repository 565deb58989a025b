package portable

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"muster/proxy/balance"
)

// classify says what err, of a transport's RoundTrip, means.
func (t *try) classify(err error) balance.Kind {
	switch {
	case t.silent.Load():
		return balance.Silent
	case t.sent != nil && t.sent.cut.Load():
		return balance.Terminated // net/http takes the broken off read for a client that left
	case t.client.Err() != nil:
		return balance.ClientGone
	case t.carrier.Load() == nil:
		return connecting(err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return balance.Silent // it stopped reading
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isReset(err), errors.Is(err, net.ErrClosed),
		errors.Is(err, errAgain), errors.Is(err, errBodyLost), ended(err):
		return balance.Terminated
	case strings.Contains(err.Error(), "response headers exceeded"): // net/http has no value for it
		return balance.HeadTooLarge
	}
	return balance.BadResponse
}

// connecting says why there is no connection.
func connecting(err error) balance.Kind {
	var (
		dns         *net.DNSError
		certificate *tls.CertificateVerificationError
		operation   net.Error
	)
	switch {
	case errors.As(err, &certificate):
		return balance.TLSCertificate
	case errors.As(err, &dns):
		return balance.NoName
	case errors.Is(err, syscall.ECONNREFUSED):
		return balance.Refused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return balance.Unroutable
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return balance.NoDescriptor
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &operation) && operation.Timeout():
		return balance.ConnectTimeout
	case isReset(err), errors.Is(err, io.EOF):
		return balance.Terminated
	}
	return balance.TLSFailed
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// ended knows the error of a transport whose connection was closed while it was
// idle; net/http exports no value for it.
func ended(err error) bool { return strings.Contains(err.Error(), "server closed idle connection") }
