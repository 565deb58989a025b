package backends

import (
	"context"
	"errors"
	"iter"
)

// ErrDenied is in the error of a store that refuses a part of what it is asked
// for and may grant the rest, to who asks for that alone.
var ErrDenied = errors.New("not allowed")

// A Together is a Store that serves many who want different keys at the price
// of one: one read, one watch of what all of them want, which they share out.
// Keys belong to prefixes by [Under].
//
// Both methods are all or nothing. Where Watch may leave out what a user is not
// allowed to see, they say ErrDenied, because it would be left out for those who
// are allowed too.
type Together interface {
	Store

	// Read returns every key under prefixes, at one revision, as one Full
	// Change, and asks each address at most once.
	Read(ctx context.Context, prefixes []string) (Change, error)

	// WatchTogether is Watch but for that. It goes on after ErrDenied too.
	WatchTogether(ctx context.Context, prefixes []string) iter.Seq2[Change, error]
}
