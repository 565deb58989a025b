package http1

import "bytes"

// PrefersHTML reports whether Accept says that HTML is wanted more than plain
// text (RFC 9110, section 12.5.1). buf is the head, or as much of it as could be
// read.
func (r *Request) PrefersHTML(buf []byte) bool {
	var page, plain preference
	for i := range r.Fields() {
		f := &r.table[i]
		if !equal(f.Name.In(buf), "accept") {
			continue
		}
		for m := range members(f.Value.In(buf)) {
			media, parameters, _ := bytes.Cut(m, semicolon)
			media = trim(media)
			q := quality(parameters)
			page.hear(media, "text/html", q)
			plain.hear(media, "text/plain", q)
		}
	}
	return page.q > plain.q
}

// A preference is what Accept says of a media type. The range that names it more
// exactly counts.
type preference struct{ exact, q int }

func (p *preference) hear(media []byte, want string, q int) {
	exact := 0
	switch {
	case equalFold(media, []byte(want)):
		exact = 3
	case equalFold(media, []byte("text/*")):
		exact = 2
	case string(media) == "*/*":
		exact = 1
	}
	if exact > p.exact {
		*p = preference{exact, q}
	}
}

// quality is the weight among parameters, in thousandths (RFC 9110, section
// 12.4.2); 0 where it is malformed.
func quality(parameters []byte) int {
	for len(parameters) > 0 {
		var one []byte
		one, parameters, _ = bytes.Cut(parameters, semicolon)
		name, value, _ := bytes.Cut(trim(one), []byte("="))
		if !equal(trim(name), "q") {
			continue
		}
		value = trim(value)
		if len(value) == 0 || len(value) > len("0.123") || value[0] > '1' || len(value) > 1 && value[1] != '.' {
			return 0
		}
		q := 0
		for i := range len("0.123") {
			if i == 1 {
				continue
			}
			digit := 0
			if i < len(value) {
				if class[value[i]]&inDigit == 0 {
					return 0
				}
				digit = int(value[i] - '0')
			}
			q = 10*q + digit
		}
		return min(q, 1000)
	}
	return 1000
}
