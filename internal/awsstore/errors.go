package awsstore

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"

	"muster/backends"
)

// Code is the service's own name of what went wrong, "" where it is not the
// service that says so.
func Code(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

// Denied reports whether the user may not do what was tried.
func Denied(err error) bool {
	switch Code(err) {
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation":
		return true
	}
	return false
}

// refused reports whether the credentials themselves are no good (any more).
func refused(err error) bool {
	switch Code(err) {
	case "ExpiredToken", "ExpiredTokenException", "RequestExpired",
		"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId",
		"InvalidSignatureException", "SignatureDoesNotMatch", "MissingAuthenticationToken", "MissingAuthenticationTokenException":
		return true
	}
	return false
}

func throttled(err error) bool {
	_, ok := retry.DefaultThrottleErrorCodes[Code(err)]
	return ok
}

// wrong is err in our words, and always the same ones for the same thing: those
// of the SDK hold a number for each request.
func wrong(name string, err error) error {
	if err == nil {
		return nil
	}
	return &storeError{name, err}
}

type storeError struct {
	name string
	err  error
}

// Unwrap says too whether others may be granted what this one may not.
func (e *storeError) Unwrap() []error {
	if Denied(e.err) {
		return []error{e.err, backends.ErrDenied}
	}
	return []error{e.err}
}

func (e *storeError) Error() string {
	text, err := e.name+": ", e.err
	if isCredentials(e.err) {
		return text + "no credentials: " + e.err.Error()
	}
	if op, ok := errors.AsType[*smithy.OperationError](e.err); ok {
		text += op.OperationName + ": "
		err = op.Err
	}
	if api, ok := errors.AsType[smithy.APIError](e.err); ok {
		return text + said(api)
	}
	if sent, ok := errors.AsType[*url.Error](e.err); ok {
		return text + sent.Err.Error()
	}
	return text + err.Error()
}

// said is what a service says. Behind the first line may stand what was signed,
// and behind a colon the time of the request.
func said(api smithy.APIError) string {
	message, _, _ := strings.Cut(api.ErrorMessage(), "\n")
	if strings.HasPrefix(message, "Signature expired:") || strings.HasPrefix(message, "Signature not yet current:") {
		message, _, _ = strings.Cut(message, ":")
		message += ": is the clock of this machine right?"
	}
	return fmt.Sprintf("%s: %s", api.ErrorCode(), strings.TrimSpace(message))
}
