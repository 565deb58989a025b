// This file runs once per request.

package http1

import "encoding/binary"

// What a byte may be part of.
const (
	inWord   = 1 << iota // letters, digits and "-": of a name without surprises
	inScore              // "_", which many servers take for "-"
	inSymbol             // what else a token may have
	inHost               // of a host name
	inHex                // hex digits
	inDigit              // digits

	inToken = inWord | inScore | inSymbol
)

var class = func() (t [256]uint8) {
	for c := range 256 {
		b := byte(c)
		digit := '0' <= b && b <= '9'
		letter := 'a' <= b|0x20 && b|0x20 <= 'z'
		switch {
		case digit || letter || b == '-':
			t[c] |= inWord | inHost
		case b == '_':
			t[c] |= inScore | inHost
		case b == '.' || b == '~':
			t[c] |= inSymbol | inHost
		}
		switch b {
		case '!', '#', '$', '%', '&', '\'', '*', '+', '^', '`', '|':
			t[c] |= inSymbol
		}
		if digit {
			t[c] |= inDigit | inHex
		}
		if 'a' <= b|0x20 && b|0x20 <= 'f' {
			t[c] |= inHex
		}
	}
	return t
}()

// isToken reports whether p is a token (RFC 9110, section 5.6.2).
func isToken(p []byte) bool {
	for _, c := range p {
		if class[c]&inToken == 0 {
			return false
		}
	}
	return len(p) > 0
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// goodValue reports whether p has no control byte but tabs: eight bytes at a
// time, and one by one where one of eight may be wrong.
func goodValue(p []byte) bool {
	for len(p) >= 8 {
		w := binary.LittleEndian.Uint64(p)
		control := (w - 0x20*ones) &^ w & highs
		del := w ^ 0x7f*ones
		del = (del - ones) &^ del & highs
		if control|del != 0 && !goodBytes(p[:8]) {
			return false
		}
		p = p[8:]
	}
	return goodBytes(p)
}

func goodBytes(p []byte) bool {
	for _, c := range p {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// trim returns p without the spaces and tabs around it.
func trim(p []byte) []byte {
	for len(p) > 0 && (p[0] == ' ' || p[0] == '\t') {
		p = p[1:]
	}
	for len(p) > 0 && (p[len(p)-1] == ' ' || p[len(p)-1] == '\t') {
		p = p[:len(p)-1]
	}
	return p
}

// equal compares ASCII without case. lower is in lower case and has no bytes but
// letters, digits and "-".
func equal(p []byte, lower string) bool {
	if len(p) != len(lower) {
		return false
	}
	for i := range len(lower) {
		if p[i]|0x20 != lower[i] || class[p[i]]&inWord == 0 {
			return false
		}
	}
	return true
}

// equalFold compares ASCII without case.
func equalFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// number reads 1*DIGIT up to 2^63-1.
func number(p []byte) (n int64, ok bool) {
	const most = 1<<63 - 1
	for _, c := range p {
		if class[c]&inDigit == 0 {
			return 0, false
		}
		d := int64(c - '0')
		if n > (most-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, len(p) > 0
}

func unhex(c byte) uint64 {
	if c <= '9' {
		return uint64(c - '0')
	}
	return uint64(c | 0x20 - 'a' + 10)
}

// members calls yield with each member of a comma-separated list that is not
// empty, trimmed.
func members(list []byte) func(yield func(member []byte) bool) {
	return func(yield func([]byte) bool) {
		for len(list) > 0 {
			end := 0
			for end < len(list) && list[end] != ',' {
				end++
			}
			member := trim(list[:end])
			list = list[min(end+1, len(list)):]
			if len(member) > 0 && !yield(member) {
				return
			}
		}
	}
}
