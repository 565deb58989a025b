package http1_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"muster/proxy/http1"
)

// mutated draws a row's text, as it is or with some bytes put in, taken out or
// doubled.
func mutated(t *rapid.T, texts []string) string {
	text := rapid.SampledFrom(texts).Draw(t, "row")
	for range rapid.IntRange(0, 3).Draw(t, "changes") {
		if len(text) == 0 {
			break
		}
		at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			text = text[:at] + rapid.SampledFrom([]string{"\r", "\n", "\r\n", "\x00", " ", "\t", ":", ",", "0", ";", "\"", "\x7f", "\x80", "%", "/", "."}).Draw(t, "bytes") + text[at:]
		case 1:
			text = text[:at] + text[at+1:]
		case 2:
			end := rapid.IntRange(at, len(text)).Draw(t, "end")
			text = text[:end] + text[at:]
		}
	}
	return text
}

// cuts draws places in text.
func cuts(t *rapid.T, text string) []int {
	c := rapid.SliceOfN(rapid.IntRange(0, len(text)), 0, 20).Draw(t, "cuts")
	slices.Sort(c)
	return c
}

func requestTexts() (texts []string) {
	for _, row := range requestRows {
		texts = append(texts, row.text)
	}
	return texts
}

func responseTexts() (texts []string) {
	for _, row := range responseRows {
		texts = append(texts, row.text)
	}
	return texts
}

func chunkTexts() (texts []string) {
	for _, row := range chunkRows {
		texts = append(texts, row.text)
	}
	return texts
}

// arrive gives parse what has come of text after each cut, until it says
// something.
func arrive(text string, cuts []int, parse func(buf []byte) (int, http1.Fault)) (n int, f http1.Fault) {
	whole := []byte(text)
	for _, cut := range append(cuts, len(text)) {
		if n, f = parse(whole[:cut]); n != 0 || f != 0 {
			break
		}
	}
	return n, f
}

// However a message is split, the verdict is the same, and what it says.
func TestSplit(t *testing.T) {
	requests, responses, bodies := requestTexts(), responseTexts(), chunkTexts()
	t.Run("request", rapid.MakeCheck(func(t *rapid.T) {
		text := mutated(t, requests)
		rules := rapid.SampledFrom([]*http1.Rules{nil, loose}).Draw(t, "rules")
		verdict := func(cuts []int) string {
			r := http1.Request{Rules: rules}
			r.Reset()
			n, f := arrive(text, cuts, func(buf []byte) (int, http1.Fault) { return r.Parse(buf, requestLimits) })
			if n == 0 {
				return fmt.Sprint(f)
			}
			return fmt.Sprint(n, says(&r, []byte(text)), string(r.AppendHead(nil, []byte(text), hop)))
		}
		if whole, parts := verdict(nil), verdict(cuts(t, text)); whole != parts {
			t.Fatalf("%q: %s in parts, %s as a whole", text, parts, whole)
		}
	}))
	t.Run("response", rapid.MakeCheck(func(t *rapid.T) {
		text := mutated(t, responses)
		head := rapid.Bool().Draw(t, "head")
		verdict := func(cuts []int) string {
			var r http1.Response
			n, f := arrive(text, cuts, func(buf []byte) (int, http1.Fault) { return r.Parse(buf, responseLimits, head) })
			if n == 0 {
				return fmt.Sprint(f)
			}
			return fmt.Sprint(n, answers(&r, []byte(text)), string(r.AppendHead(nil, []byte(text), &http1.Reply{Minor: 1})))
		}
		if whole, parts := verdict(nil), verdict(cuts(t, text)); whole != parts {
			t.Fatalf("%q: %s in parts, %s as a whole", text, parts, whole)
		}
	}))
	t.Run("chunks", rapid.MakeCheck(func(t *rapid.T) {
		text := mutated(t, bodies) + "rest"
		verdict := func(cuts []int) string {
			var c http1.Chunks
			content, trailers, rest, f := drain(&c, text, cuts)
			return fmt.Sprintf("%q %q %q %v %v", content, trailers, rest, f, c.Done())
		}
		if whole, parts := verdict(nil), verdict(cuts(t, text)); whole != parts {
			t.Fatalf("%q: %s in parts, %s as a whole", text, parts, whole)
		}
	}))
}

// Byte by byte is the hardest split.
func TestByteByByte(t *testing.T) {
	each := func(text string) (all []int) {
		for i := range text {
			all = append(all, i)
		}
		return all
	}
	for _, row := range requestRows {
		var r http1.Request
		if _, f := arrive(row.text, each(row.text), func(buf []byte) (int, http1.Fault) { return r.Parse(buf, requestLimits) }); f != row.fault {
			t.Errorf("%s: %v, want %v", row.name, f, row.fault)
		}
	}
	for _, row := range responseRows {
		var r http1.Response
		if _, f := arrive(row.text, each(row.text), func(buf []byte) (int, http1.Fault) { return r.Parse(buf, responseLimits, false) }); f != row.fault {
			t.Errorf("%s: %v, want %v", row.name, f, row.fault)
		}
	}
	for _, row := range chunkRows {
		var c http1.Chunks
		if content, trailers, _, f := drain(&c, row.text, each(row.text)); f != row.fault || content+trailers != row.content && row.name != "7.1 data too short" {
			t.Errorf("%s: %q, %v, want %q, %v", row.name, content, f, row.content, row.fault)
		}
	}
}
