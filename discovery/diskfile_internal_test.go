package discovery

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/backends"
	"muster/catalog"
)

const origin = "etcd://h"

// written is a file of some keys, as it is on the disk, and what it holds.
func written(t testing.TB, kvs []backends.KV) (string, diskRecord, *catalog.Snapshot) {
	t.Helper()
	s := catalog.New("/services").Apply(backends.Change{Revision: 9, Put: kvs})
	r := diskRecord{Origin: origin, Prefix: "/services", At: time.Unix(1_700_000_000, 5), Revision: 9}
	var buf bytes.Buffer
	if err := r.encode(&buf, s); err != nil {
		t.Fatal(err)
	}
	return buf.String(), r, s
}

func read(text string) (diskRecord, *catalog.Snapshot, error) {
	return decodeDisk(strings.NewReader(text), origin, "/services", catalog.New("/services"))
}

func few() []backends.KV {
	return []backends.KV{
		{Key: "/services/web/a", Value: "h:1", Created: 3, Modified: 1 << 40, Lease: 7587869134},
		{Key: "/services.meta/web/a", Value: `{"weight":7,"state":"up"}`},
		{Key: "/services/web/b", Value: ""}, // can't be read, and is kept
	}
}

// What was written is read again: little, several chunks, and a value that is
// larger than one.
func TestDiskFileHoldsWhatWasWritten(t *testing.T) {
	var many []backends.KV
	for i := range 10_000 {
		id := fmt.Sprintf("/s%d/%05d", i%7, i)
		many = append(many,
			backends.KV{Key: "/services" + id, Value: fmt.Sprintf("h%d:%d", i, 1+i), Modified: int64(i)},
			backends.KV{Key: "/services.meta" + id, Value: fmt.Sprintf(`{"zone":"%d%s"}`, i, strings.Repeat("z", 3*diskChunk/10_000))})
	}
	large := append(few(), backends.KV{Key: "/services.meta/web/a", Value: `{"zone":"` + strings.Repeat("z", 3*diskChunk) + `"}`})
	for name, kvs := range map[string][]backends.KV{"nothing": nil, "few": few(), "many": many, "large": large} {
		text, want, wantSnapshot := written(t, kvs)
		got, s, err := read(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: record: (-want +got)\n%s", name, d)
		}
		if s.Revision != want.Revision {
			t.Errorf("%s: revision %d, want %d", name, s.Revision, want.Revision)
		}
		if d := cmp.Diff(slices.Collect(keysOf(wantSnapshot)), slices.Collect(keysOf(s))); d != "" {
			t.Errorf("%s: keys: (-want +got)\n%s", name, d)
		}
	}
}

// Whatever is cut off a file, or changed in it, is found.
func TestDiskFileThatIsDamaged(t *testing.T) {
	text, _, _ := written(t, few())
	for n := range len(text) {
		if _, _, err := read(text[:n]); err == nil {
			t.Errorf("the first %d bytes of %d are taken for the whole", n, len(text))
		}
		damaged := []byte(text)
		damaged[n] ^= 0x10
		if _, _, err := read(string(damaged)); err == nil {
			t.Errorf("byte %d was changed, and nobody noticed", n)
		}
	}
	if _, _, err := read(text + "x"); err == nil {
		t.Error("a file with something behind its end is taken for whole")
	}
}

// Bytes of others are an error or keys, whatever they say of themselves; with a
// checksum that is right too.
func FuzzDecodeDisk(f *testing.F) {
	text, _, _ := written(f, few())
	f.Add(text)
	f.Add(text[:len(text)-sumLen])
	f.Add(diskHead)
	f.Fuzz(func(t *testing.T, text string) {
		_, _, _ = read(text)
		sealed := text + string(binary.BigEndian.AppendUint32(nil, crc32.Checksum([]byte(text), castagnoli)))
		r, s, err := read(sealed)
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := r.encode(&again, s); err != nil {
			t.Fatal(err)
		}
		if _, same, err := read(again.String()); err != nil || !slices.Equal(slices.Collect(keysOf(s)), slices.Collect(keysOf(same))) {
			t.Errorf("%q: written again it is another, or %v", text, err)
		}
	})
}
