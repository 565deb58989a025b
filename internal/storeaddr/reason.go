package storeaddr

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
)

// Reason is what err, of a connection to a store, says in a person's words, and
// the same for the same thing.
func Reason(err error) string {
	if asked, ok := errors.AsType[*url.Error](err); ok {
		err = asked.Err // it names what was asked, the store's error where
	}
	var timeout net.Error
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case err.Error() == io.EOF.Error(), err.Error() == io.ErrUnexpectedEOF.Error(): // a library may have made it anew
		return "connection closed"
	}
	return err.Error()
}
