// This file runs once per request.

package portable

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"
)

// newID makes the ID of a request: 128 random bits.
func newID(id *[32]byte) {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(b[8:], rand.Uint64())
	hex.Encode(id[:], b[:])
}

// A date is the value of Date, made once a second.
type date struct{ made atomic.Pointer[madeDate] }

type madeDate struct {
	second int64
	text   []byte
}

func (d *date) now(t time.Time) []byte {
	second := t.Unix()
	if m := d.made.Load(); m != nil && m.second == second {
		return m.text
	}
	m := &madeDate{second, t.UTC().AppendFormat(nil, http.TimeFormat)}
	d.made.Store(m)
	return m.text
}
