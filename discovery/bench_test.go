package discovery

import (
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
	for e := range s.Entries() {
		r.KVs = append(r.KVs, e.Plain)
	}
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			if _, err := r.encode(); err != nil {
				b.Fatal(err)
			}
		}
	})
	text, err := r.encode()
	if err != nil {
		b.Fatal(err)
	}
	b.Run("decode and apply", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			r, err := decodeDisk(text)
			if err != nil {
				b.Fatal(err)
			}
			catalog.New("/services").Apply(backends.Change{Full: true, Put: r.KVs})
		}
	})
}
