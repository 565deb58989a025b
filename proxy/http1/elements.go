// This file runs once per request that a trusted proxy sends.

package http1

// MaxHops is how many addresses [Request.Hops] returns.
const MaxHops = 32

// Hops takes down where a trusted client says that the request came from, in the
// style of the rules: the last members of X-Forwarded-For, or what is behind
// "for=" in the last elements of Forwarded, in their order. It returns how many.
func (r *Request) Hops(buf []byte, hops *[MaxHops]Span) int {
	if r.Rules == nil || !r.Rules.Trusted {
		return 0
	}
	n := 0
	note := func(s Span) {
		if n == MaxHops {
			copy(hops[:], hops[1:])
			n--
		}
		hops[n] = s
		n++
	}
	for i := range r.Fields() {
		f := &r.table[i]
		value := f.Value.In(buf)
		switch {
		case f.ID == ForwardedFor && r.Rules.Style.x():
			for at := 0; at < len(value); {
				end := at
				for end < len(value) && value[end] != ',' {
					end++
				}
				if m := spanIn(value, at, end); m.Len() > 0 {
					note(Span{f.Value.Start + m.Start, f.Value.Start + m.End})
				}
				at = end + 1
			}
		case f.ID == Forwarded && r.elements && !r.Rules.Style.x():
			scanForwarded(value, func(m Span) { note(Span{f.Value.Start + m.Start, f.Value.Start + m.End}) })
		}
	}
	return n
}

// spanIn is p[from:to] without the white space around.
func spanIn(p []byte, from, to int) Span {
	for from < to && (p[from] == ' ' || p[from] == '\t') {
		from++
	}
	for to > from && (p[to-1] == ' ' || p[to-1] == '\t') {
		to--
	}
	return Span{uint32(from), uint32(to)}
}

// goodForwarded reports whether p is a list of forwarded-elements (RFC 7239,
// section 4).
func goodForwarded(p []byte) bool { return scanForwarded(p, nil) }

// scanForwarded reads 1#( [ pair ] *( ";" [ pair ] ) ), and has node take what each
// element says behind "for=", without quotes; nothing where it says nothing.
func scanForwarded(p []byte, node func(Span)) bool {
	at := 0
	var from Span
	for {
		for at < len(p) && (p[at] == ' ' || p[at] == '\t') {
			at++
		}
		if at < len(p) && p[at] != ';' && p[at] != ',' {
			name := at
			for at < len(p) && class[p[at]]&inToken != 0 {
				at++
			}
			if at == name || at == len(p) || p[at] != '=' {
				return false
			}
			isFor := equal(p[name:at], "for")
			at++
			value, end, ok := wordAt(p, at)
			if !ok {
				return false
			}
			if isFor {
				from = value
			}
			at = end
		}
		for at < len(p) && (p[at] == ' ' || p[at] == '\t') {
			at++
		}
		if at < len(p) && p[at] == ';' {
			at++
			continue
		}
		if node != nil {
			node(from)
		}
		from = Span{}
		if at == len(p) {
			return true
		}
		if p[at] != ',' {
			return false
		}
		at++
	}
}

// wordAt reads a token or a quoted-string without escapes (nothing here needs
// one), and returns what it says and where it ends.
func wordAt(p []byte, at int) (value Span, end int, ok bool) {
	if at < len(p) && p[at] == '"' {
		for end = at + 1; end < len(p) && p[end] != '"'; end++ {
			if p[end] == '\\' {
				return Span{}, 0, false
			}
		}
		if end == len(p) {
			return Span{}, 0, false
		}
		return Span{uint32(at) + 1, uint32(end)}, end + 1, true
	}
	for end = at; end < len(p) && class[p[end]]&inToken != 0; end++ {
	}
	return Span{uint32(at), uint32(end)}, end, end > at
}

// cameBy reports whether a Via line has name as one of its recipients: the
// second word of a member, without regard to case. Comments may hold commas.
func cameBy(line []byte, name string) bool {
	word, from, depth := 0, -1, 0 // words of this member, where the one begins that runs
	for i := 0; ; i++ {
		var c byte = ','
		if i < len(line) {
			c = line[i]
		}
		switch {
		case depth > 0:
			switch {
			case i >= len(line):
				return false
			case c == '\\':
				i++
			case c == '(':
				depth++
			case c == ')':
				depth--
			}
			continue
		case c == ',' || c == ' ' || c == '\t' || c == '(':
			if from >= 0 {
				if word++; word == 2 && equalFold(line[from:i], []byte(name)) {
					return true
				}
				from = -1
			}
			if c == '(' {
				depth++
			}
			if c == ',' {
				word = 0
			}
		case from < 0:
			from = i
		}
		if i >= len(line) {
			return false
		}
	}
}
