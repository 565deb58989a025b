package catalog

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

// like is what every sidekick can say.
func like() Announcement {
	started := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return Announcement{
		V: 1, Addr: "10.0.0.1:8080", Proto: "h2c", Weight: 7, Zone: "a", Version: "1.4.2", Tags: []string{"x", "y"},
		Labels: map[string]string{"k": "v"}, Routes: []string{"web.test/", "/api"}, State: Up, Started: &started, Host: "node7",
		Health: &Health{HTTP: "/healthz", TCP: true, Interval: Duration(2 * time.Second), Timeout: Duration(time.Second), Rise: 2, Fall: 3},
	}
}

// What sidekicks write is read without encoding/json, and what one of a service
// has in common with another is shared.
func TestMetadataIsScannedAndShared(t *testing.T) {
	one := like()
	for _, a := range []Announcement{one, {V: 1, Addr: "h:1", State: Draining}, {V: 1}} {
		got, ok := scanMetadata(a.Metadata(), new(Announcement))
		if !ok || !reflect.DeepEqual(got, a) {
			t.Errorf("scanMetadata(%s): got %+v, %v", a.Metadata(), got, ok)
		}
	}
	text := one.Metadata()
	got, _ := scanMetadata(text, &one)
	if &got.Tags[0] != &one.Tags[0] || &got.Routes[0] != &one.Routes[0] || got.Health != one.Health || got.Started != one.Started {
		t.Errorf("scanMetadata beside the same: %+v, want it to share", got)
	}
	one.Labels = nil // a map is made to compare
	text = one.Metadata()
	if n := testing.AllocsPerRun(100, func() { scanMetadata(text, &one) }); n > 0 {
		t.Errorf("scanMetadata beside the same allocates %v times, want never", n)
	}
}

func TestMetadataThatIsNotPlainIsLeftToEncodingJSON(t *testing.T) {
	for _, text := range []string{
		"", "{", "[]", "null", `"x"`, "1", `{"v":1} x`, `{"v":1,}`, `{,"v":1}`, `{"v":1 "addr":"h:1"}`, `{"v"}`, `{"v":}`, `{v:1}`,
		`{"V":1}`, `{"future":1}`, `{"v":1,"v":2}`, `{"v":null}`, `{"v":01}`, `{"v":-1}`, `{"v":1.5}`, `{"v":1e3}`, `{"v":12345678901}`, `{"v":"1"}`,
		`{"addr":"h\u0031:1"}`, `{"addr":"\n"}`, `{"addr":"é"}`, "{\"addr\":\"\x7f\"}", `{"addr":"h:1`, `{"addr":1}`,
		`{"tags":["x",]}`, `{"tags":["x" "y"]}`, `{"tags":[1]}`, `{"tags":["x"`, `{"tags":{}}`, `{"labels":{"a":"1","a":"2"}}`, `{"labels":{"a":1}}`,
		`{"health":{"tcp":tru}}`, `{"health":{"interval":"-1s"}}`, `{"health":{"interval":2}}`, `{"health":{"x":1}}`, `{"health":null}`,
		`{"started":"yesterday"}`, `{"started":1}`, `{"started":"2026-01-02 03:04:05Z"}`, `{"started":"2026-01-02T3:04:05Z"}`, `{"started":"2026-01-02T03:04:05,5Z"}`, `{"started":"2026-01-02T03:04:05+01:00"}`,
	} {
		if a, ok := scanMetadata(text, new(Announcement)); ok {
			t.Errorf("scanMetadata(%s): got %+v, want it left alone", text, a)
		}
	}
}

// Whatever is scanned is what encoding/json makes of it.
func FuzzMetadata(f *testing.F) {
	f.Add(like().Metadata())
	f.Add(`{"tags":[],"labels":{},"health":{}}`)
	f.Add(" { \"weight\" : 0 ,\n\t\"state\":\"draining\"}\r\n")
	f.Add(`{"started":"2026-01-02T03:04:05.000000001+07:00","health":{"tcp":false,"fall":999999999}}`)
	f.Add(`{"started":"2026-01-02T03:04:05,5Z","health":{"interval":"1h2m3.5s"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := scanMetadata(text, new(Announcement))
		if !ok {
			return
		}
		want := Announcement{Weight: DefaultWeight}
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatalf("%q was scanned, and encoding/json says %v", text, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: scanned as %+v, encoding/json has %+v", text, got, want)
		}
	})
}

func BenchmarkMetadata(b *testing.B) {
	text := `{"v":1,"addr":"10.0.0.1:8080","weight":100,"zone":"a","version":"1.4.2","routes":["web.test/"],"state":"up","started":"2026-01-02T03:04:05Z","host":"node7"}`
	b.Run("scanned", func(b *testing.B) {
		like, _ := ParseMetadata(text)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := parseMetadata(text, &like); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			a := Announcement{Weight: DefaultWeight}
			if err := json.Unmarshal([]byte(text), &a); err != nil {
				b.Fatal(err)
			}
		}
	})
}
