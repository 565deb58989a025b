package drivertest

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
	"testing"
	"time"
)

// play runs a script in one mode.
func play(t testing.TB, start Start, s *script, mode string, patience time.Duration, peer bool) (err error) {
	r, err := newRig(mode, patience)
	if err != nil {
		return err
	}
	r.peer = peer
	defer r.stop()
	vars, free, err := addresses(r, s)
	if err != nil {
		return err
	}
	defer free()
	addr, stop, err := start(t, s.config(vars))
	if err != nil {
		return fmt.Errorf("%s:1: start: %w", s.name, err)
	}
	r.addr = addr
	err = r.play(s, vars)
	r.leave()
	stop()
	if err == nil {
		err = r.surplus()
	}
	return err
}

// play takes one step after the other.
func (r *rig) play(s *script, vars map[string]string) error {
	last := -1 // step with the origin
	for i, st := range s.steps {
		if st.who[0] == 'O' || st.verb == "alive" || st.verb == "ok" {
			last = i
		}
	}
	began := false
	for i, st := range s.steps {
		r.strict = i > last
		st.text = fill(st.text, vars)
		var err error
		switch {
		case !began && st.who == "C" && st.verb == ">" && r.mode == "after":
			err = r.before(st.text)
		case !began && r.mode == "twice":
			st.text += st.text
			if err = r.step(st); err == nil {
				err = r.first(s.steps[1:len(s.steps)-1], vars)
			}
		default:
			err = r.step(st)
		}
		began = began || st.verb == ">"
		if err != nil {
			return fmt.Errorf("%s:%d: %s%s: %w", s.name, st.line, st.who, st.verb, err)
		}
	}
	return nil
}

// first is the first of two copies.
func (r *rig) first(steps []step, vars map[string]string) error {
	for _, st := range steps {
		st.text = fill(st.text, vars)
		if err := r.step(st); err != nil {
			return fmt.Errorf("the first of two: line %d: %s%s: %w", st.line, st.who, st.verb, err)
		}
	}
	return nil
}

// before is a good request and its answer, in one write with what the case
// begins with.
func (r *rig) before(text string) error {
	const request = "GET /before HTTP/1.1\r\nHost: before.test\r\n"
	steps := []step{
		{who: "C", verb: ">", text: request + "\r\n" + text},
		{who: "O", verb: "<", text: request + "\r\n"},
		{who: "O", verb: ">", text: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nbefore"},
		{who: "C", verb: "<", text: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nbefore"},
	}
	r.strict = false
	for _, st := range steps {
		if err := r.step(st); err != nil {
			return fmt.Errorf("the request before: %w", err)
		}
	}
	return nil
}

func (r *rig) step(st step) error {
	w, err := r.named(st.who)
	if err != nil {
		return err
	}
	switch st.verb {
	case ">":
		w.send(st.text)
	case "<":
		return w.expect(st.text)
	case "fin":
		return w.finish(func() { w.conn.CloseWrite() })
	case "close":
		return w.finish(func() { w.conn.Close() })
	case "reset":
		return w.finish(w.reset)
	case "pause":
		// The read that waits ends too.
		r.edit(func() { w.paused = true; w.conn.SetReadDeadline(time.Unix(1, 0)) })
	case "resume":
		r.edit(func() { w.paused = false })
	case "end":
		return w.expectEnd(st.args)
	case "nobody":
		w.body = none
	case "tunnel":
		w.body = until
	case "discard":
		r.edit(func() { w.discard, w.in = true, nil })
	case "closed", "broken", "gone", "cut":
		return w.expectOver(st.verb)
	case "unfinished":
		return w.unfinished()
	case "refused", "answered":
		return w.expectAnswer(st.verb == "refused", st.args)
	case "ok":
		return r.ok(w, strings.Join(st.args, ""))
	case "alive":
		return r.alive(w, strings.Join(st.args, ""))
	}
	return nil
}

// expect compares what comes with a head, a body, or a head and a body.
func (w *wire) expect(text string) error {
	if w.body == none {
		lines, data, ok := strings.Cut(text, "\r\n\r\n")
		if !ok {
			return fmt.Errorf("%q: want a head with an empty line behind it", text)
		}
		if err := w.expectHead(lines); err != nil {
			return err
		}
		text = data
	}
	if text == "" {
		return nil
	}
	got, err := w.data(len(text))
	if got != text[:len(got)] || err == nil && got != text {
		return fmt.Errorf("body %q, want %q", short([]byte(got)), short([]byte(text)))
	}
	return err
}

func (w *wire) expectHead(text string) error {
	want, err := parseWant(text)
	if err != nil {
		return err
	}
	got, err := w.head()
	if err != nil {
		return err
	}
	switch {
	case w.rig.peer:
	case w.name[0] == 'O':
		implied := map[string]string{"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http", "x-request-id": "*hex"}
		if host := want.fields["host"]; host != nil {
			implied["x-forwarded-host"] = host[0]
		}
		want.imply(implied)
	case want.status() >= 200 || want.status() == 101:
		want.imply(map[string]string{"x-request-id": "*hex", "date": "*"})
	}
	if err := want.differs(got, w.rig.peer); err != nil {
		return err
	}
	if id := got.fields["x-request-id"]; id != nil && !w.rig.peer && want.fields["x-request-id"][0] == "*hex" {
		return w.rig.sameID(w, id[0])
	}
	return nil
}

// sameID checks that the answer has the id of a request that the origin got.
func (r *rig) sameID(w *wire, id string) error {
	w.request = id
	if w.name[0] == 'O' {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.origins {
		if o != nil && o.request == id {
			return nil
		}
	}
	return fmt.Errorf("X-Request-Id %q, which the origin never got", id)
}

func (w *wire) expectEnd(trailers []string) error {
	got, err := w.end()
	if err != nil {
		return err
	}
	want, err := parseWant(strings.Join(append([]string{"HTTP/1.1 200 trailers"}, trailers...), "\r\n"))
	if err != nil {
		return err
	}
	got.start = want.start
	return want.differs(got, w.rig.peer)
}

// expectOver compares how the connection ended.
func (w *wire) expectOver(how string) error {
	was := w.body
	if err := w.over(); err != nil {
		return err
	}
	w.body = finished
	switch {
	case how == "closed" && !w.clean():
		return fmt.Errorf("ended with %v, want FIN", w.ended)
	case how == "broken" && w.clean():
		return fmt.Errorf("ended with %v, want a reset", w.ended)
	case how == "cut" && was == none:
		return fmt.Errorf("the message is complete, want it cut off")
	}
	return nil
}

// ok has the origin answer the request that came, and the client get that.
func (r *rig) ok(w *wire, by string) error {
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	origin, err := r.named(cmp.Or(by, "O"))
	if err != nil {
		return err
	}
	if origin.body != none {
		return fmt.Errorf("%s has not got the whole request", origin.name)
	}
	origin.send(answer)
	return w.expect(answer)
}

// alive sends a marked request, which must be answered as itself.
func (r *rig) alive(w *wire, by string) error {
	if w.body != none && w.body != until {
		return fmt.Errorf("the message before is not complete")
	}
	const request = "GET /alive HTTP/1.1\r\nHost: alive.test\r\n"
	value := fmt.Sprintf("%s %d\r\n", w.name, time.Now().UnixNano())
	mark := "X-Mark: " + value
	w.send(request + mark + "\r\n")
	var origin *wire
	err := r.wait("the marked request at the origin", func() bool {
		for i, o := range r.origins {
			if o != nil && bytes.Contains(o.in, []byte(value)) {
				origin, r.known = o, max(r.known, i+1)
			}
		}
		return origin != nil || w.ended != nil
	})
	if err != nil {
		return err
	}
	if origin == nil {
		return fmt.Errorf("the connection ended (%v), want it alive", w.ended)
	}
	if by == "O" {
		by = "O1"
	}
	if by != "" && by != origin.name {
		return fmt.Errorf("the marked request came to %s, want %s", origin.name, by)
	}
	if origin.body != none {
		return fmt.Errorf("the marked request came to %s inside another", origin.name)
	}
	if err := origin.expect(request + mark + "\r\n"); err != nil {
		return err
	}
	answer := "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" + mark + "\r\nalive"
	origin.send(answer)
	return w.expect(answer)
}
