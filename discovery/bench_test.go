package discovery

import (
	"bytes"
	"io"
	"testing"
	"time"

	"muster/backends"
	"muster/catalog"
)

// The whole fleet of 100,000 endpoints expires in one Change: how long the news
// behind it wait.
func BenchmarkMassExpiry100k(b *testing.B) {
	sizes := make(map[string]int)
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
		sizes[name] = 10_000
	}
	s := fleet(sizes)
	var c backends.Change
	for e := range s.Entries() {
		c.Deleted = append(c.Deleted, e.Plain.Key)
	}
	for b.Loop() {
		g := guard{on: true, held: make(map[catalog.Place]*hold)}
		if _, changed := g.filter(s, c, time.Now()); !changed || len(g.held) != 100_000 {
			b.Fatalf("%d are held, want all", len(g.held))
		}
	}
}

// A snapshot of 100,000 endpoints is written and read again.
func BenchmarkDisk100k(b *testing.B) {
	s := fleet(map[string]int{"web": 100_000})
	r := diskRecord{Origin: "o", Prefix: "/services"}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := r.encode(io.Discard, s); err != nil {
				b.Fatal(err)
			}
		}
	})
	var buf bytes.Buffer
	if err := r.encode(&buf, s); err != nil {
		b.Fatal(err)
	}
	b.Run("decode and apply", func(b *testing.B) {
		b.SetBytes(int64(buf.Len()))
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := decodeDisk(bytes.NewReader(buf.Bytes()), "o", "/services", catalog.New("/services")); err != nil {
				b.Fatal(err)
			}
		}
	})
}
