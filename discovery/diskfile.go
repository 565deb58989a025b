package discovery

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"slices"
	"strings"
	"time"
	"unsafe"

	"muster/backends"
	"muster/catalog"
)

// A file is its head, a [diskRecord], its keys and a checksum. Numbers are
// varints, and texts have their length before them. Neither who writes nor who
// reads holds more than a chunk of it.
//
//	"muster snapshot 3\n"
//	origin, prefix, at, revision
//	key, value, created, modified, lease     of each, those of an endpoint side by side
//	CRC-32C of all before it, 4 bytes, the greatest first

const (
	diskHead  = "muster snapshot 3\n"
	diskWrite = 256 << 10 // is written at once
	diskChunk = 4 << 20   // is read at once: enough to share among the processors
	sumLen    = 4
)

// A diskRecord is what a file says of itself.
type diskRecord struct {
	Origin, Prefix string
	At             time.Time // the store proved it then
	Revision       int64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode writes a whole file of the record and the keys of s.
func (r diskRecord) encode(to io.Writer, s *catalog.Snapshot) error {
	buf := make([]byte, 0, diskWrite+diskWrite/8)
	sum := uint32(0)
	flush := func() error {
		sum = crc32.Update(sum, castagnoli, buf)
		_, err := to.Write(buf)
		buf = buf[:0]
		return err
	}
	buf = append(buf, diskHead...)
	buf = appendText(buf, r.Origin)
	buf = appendText(buf, r.Prefix)
	buf = binary.AppendUvarint(buf, uint64(r.At.UnixNano()))
	buf = binary.AppendUvarint(buf, uint64(r.Revision))
	for kv := range keysOf(s) {
		buf = appendText(buf, kv.Key)
		buf = appendText(buf, kv.Value)
		buf = binary.AppendUvarint(buf, uint64(kv.Created))
		buf = binary.AppendUvarint(buf, uint64(kv.Modified))
		buf = binary.AppendUvarint(buf, uint64(kv.Lease))
		if len(buf) < diskWrite {
			continue
		}
		if err := flush(); err != nil {
			return err
		}
	}
	if err := flush(); err != nil {
		return err
	}
	_, err := to.Write(binary.BigEndian.AppendUint32(nil, sum))
	return err
}

func appendText(to []byte, text string) []byte {
	return append(binary.AppendUvarint(to, uint64(len(text))), text...)
}

// keysOf are the keys that s was made of.
func keysOf(s *catalog.Snapshot) iter.Seq[backends.KV] {
	return func(yield func(backends.KV) bool) {
		for e := range s.Entries() {
			if e.Plain.Key != "" && !yield(e.Plain) || e.Meta.Key != "" && !yield(e.Meta) {
				return
			}
		}
	}
}

var (
	errCutOff  = errors.New("not a snapshot, or cut off")
	errDamaged = errors.New("damaged: the checksum does not match")
)

// decodeDisk reads a file into s, which knows nothing yet. It is one of origin and
// of the prefix, or that is the error.
func decodeDisk(from io.Reader, origin, prefix string, s *catalog.Snapshot) (r diskRecord, _ *catalog.Snapshot, err error) {
	d := diskReader{from: from, buf: make([]byte, 0, diskChunk)}
	var kvs []backends.KV
	begun, taken := false, 0
	for more := true; more; {
		if more, err = d.fill(taken); err != nil {
			return r, nil, err
		}
		// The catalog keeps copies only, so the texts may go with the chunk.
		chunk := d.buf[:max(0, len(d.buf)-sumLen)]
		text := cursor{rest: unsafe.String(unsafe.SliceData(chunk), len(chunk))}
		all := len(text.rest)
		if !begun {
			if begun = text.record(&r); begun && (r.Origin != origin || r.Prefix != prefix) {
				return r, nil, fmt.Errorf("it is of %s at %s: want %s at %s", r.Prefix, r.Origin, prefix, origin)
			}
		}
		kvs = kvs[:0]
		for begun && text.rest != "" {
			kv, ok := text.key()
			if !ok {
				break
			}
			kvs = append(kvs, kv)
		}
		s = s.Apply(backends.Change{Revision: r.Revision, Put: kvs})
		taken = all - len(text.rest)
	}
	switch sum := d.sum(taken); {
	case !begun || len(d.buf) != taken+sumLen:
		return r, nil, errCutOff
	case sum != binary.BigEndian.Uint32(d.buf[taken:]):
		return r, nil, errDamaged
	}
	return r, s, nil
}

// A diskReader reads a file by chunks.
type diskReader struct {
	from io.Reader
	buf  []byte // read, and not taken
	crc  uint32 // of all that was taken
}

// sum is the checksum with the first n bytes of buf.
func (d *diskReader) sum(n int) uint32 { return crc32.Update(d.crc, castagnoli, d.buf[:n]) }

// fill takes the first n bytes of buf and reads what has room then; where nothing
// was taken, it makes room. more is false at the end of the file.
func (d *diskReader) fill(n int) (more bool, err error) {
	d.crc = d.sum(n)
	rest := copy(d.buf, d.buf[n:])
	d.buf = d.buf[:rest]
	if rest == cap(d.buf) {
		d.buf = slices.Grow(d.buf, rest)
	}
	read, err := io.ReadFull(d.from, d.buf[rest:cap(d.buf)])
	d.buf = d.buf[:rest+read]
	switch err {
	case nil:
		return true, nil
	case io.EOF, io.ErrUnexpectedEOF:
		return false, nil
	}
	return false, err
}

// A cursor takes things off the front of what is left of a text. What is not there
// as a whole is left.
type cursor struct{ rest string }

func (c *cursor) record(r *diskRecord) (ok bool) {
	at := *c
	if at.rest, ok = strings.CutPrefix(at.rest, diskHead); !ok {
		return false
	}
	r.Origin, r.Prefix = strings.Clone(at.text(&ok)), strings.Clone(at.text(&ok))
	r.At = time.Unix(0, at.number(&ok))
	r.Revision = at.number(&ok)
	if ok {
		*c = at
	}
	return ok
}

func (c *cursor) key() (kv backends.KV, ok bool) {
	at := *c
	ok = true
	kv = backends.KV{Key: at.text(&ok), Value: at.text(&ok), Created: at.number(&ok), Modified: at.number(&ok), Lease: at.number(&ok)}
	if ok {
		*c = at
	}
	return kv, ok
}

// number takes a varint; ok becomes false where there is none.
func (c *cursor) number(ok *bool) int64 {
	var n uint64
	for i := range min(len(c.rest), binary.MaxVarintLen64) {
		b := c.rest[i]
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			c.rest = c.rest[i+1:]
			return int64(n)
		}
	}
	*ok = false
	return 0
}

func (c *cursor) text(ok *bool) string {
	n := c.number(ok)
	if n < 0 || n > int64(len(c.rest)) {
		*ok = false
		return ""
	}
	text := c.rest[:n]
	c.rest = c.rest[n:]
	return text
}
