package portable

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"muster/proxy/balance"
	"muster/proxy/http1"
)

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
	case errors.Is(err, errHandshake):
		if errors.Is(err, io.EOF) || isReset(err) {
			return balance.Terminated
		}
		return balance.TLSFailed
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
	case errors.Is(err, context.Canceled):
		return balance.ClientGone // cut off while draining
	case isReset(err):
		return balance.Terminated
	}
	return balance.Unroutable
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// bodyFault says what a fault in a request's body means.
func bodyFault(f http1.Fault) balance.Kind {
	if f == http1.BodyLarge {
		return balance.BodyLong
	}
	return balance.BadRequest
}

// answerFault says what a fault in an answer's head means.
func answerFault(f http1.Fault) balance.Kind {
	if f == http1.HeadTooLarge || f == http1.ManyFields {
		return balance.HeadTooLarge
	}
	return balance.BadResponse
}
