package balance

import (
	"testing"

	"pgregory.net/rapid"
)

// What follows the first failure, of a service with another upstream to go to.
func TestNext(t *testing.T) {
	const (
		other = "other"
		same  = "same, fresh"
	)
	for _, tt := range []struct {
		name   string
		method string
		f      Failure
		want   string // or the Proxy-Status error of the answer
	}{
		{"refused", "GET", Failure{Kind: Refused, BodyKept: true}, other},
		{"refused", "POST", Failure{Kind: Refused, BodyKept: true}, other},
		{"connect timeout", "POST", Failure{Kind: ConnectTimeout, BodyKept: true}, other},
		{"unroutable", "PATCH", Failure{Kind: Unroutable, BodyKept: true}, other},
		{"body lost, nothing written", "POST", Failure{Kind: Refused}, "connection_refused"},

		{"died", "GET", Failure{Kind: Terminated, Written: true, BodyKept: true}, other},
		{"died", "HEAD", Failure{Kind: Terminated, Written: true, BodyKept: true}, other},
		{"died", "OPTIONS", Failure{Kind: Terminated, Written: true, BodyKept: true}, other},
		{"died", "PUT", Failure{Kind: Terminated, Written: true, BodyKept: true}, other},
		{"died", "DELETE", Failure{Kind: Terminated, Written: true, BodyKept: true}, other},
		{"died", "POST", Failure{Kind: Terminated, Written: true, BodyKept: true}, "connection_terminated"},
		{"died", "PATCH", Failure{Kind: Terminated, Written: true, BodyKept: true}, "connection_terminated"},
		{"died", "get", Failure{Kind: Terminated, Written: true, BodyKept: true}, "connection_terminated"},
		{"died, body too large", "PUT", Failure{Kind: Terminated, Written: true}, "connection_terminated"},
		{"died inside the answer", "GET", Failure{Kind: Terminated, Written: true, Answered: true, BodyKept: true}, "connection_terminated"},

		{"reused died", "GET", Failure{Kind: Terminated, Written: true, Reused: true, BodyKept: true}, same},
		{"reused died", "POST", Failure{Kind: Terminated, Written: true, Reused: true, BodyKept: true}, "connection_terminated"},
		{"reused died unwritten", "POST", Failure{Kind: Terminated, Reused: true, BodyKept: true}, same},
		{"reused died, body too large", "PUT", Failure{Kind: Terminated, Written: true, Reused: true}, "connection_terminated"},

		{"silent", "GET", Failure{Kind: Silent, Written: true, BodyKept: true}, "http_response_timeout"},
		{"malformed", "GET", Failure{Kind: BadResponse, Written: true, Answered: true, BodyKept: true}, "http_protocol_error"},
		{"client gone", "GET", Failure{Kind: ClientGone, Written: true, BodyKept: true}, "http_request_error"},
		{"client's body broken", "PUT", Failure{Kind: BadRequest, Written: true, BodyKept: true}, "http_request_error"},
	} {
		t.Run(tt.name+" "+tt.method, func(t *testing.T) {
			s, _ := service(t, "a:100 b:100")
			at := s.Attempts(tt.method)
			first := at.First().To
			move := at.Next(tt.f)
			got := move.Kind.Answer().Error
			switch {
			case move.To == first && move.Fresh:
				got = same
			case move.To != nil && move.To != first && !move.Fresh:
				got = other
			}
			if got != tt.want {
				t.Errorf("after %+v: %s, want %s", tt.f, got, tt.want)
			}
		})
	}
}

func TestNextReusedOnce(t *testing.T) {
	s, _ := service(t, "a:100 b:100")
	at := s.Attempts("GET")
	dead := Failure{Kind: Terminated, Written: true, Reused: true, BodyKept: true}
	first := at.First().To
	if m := at.Next(dead); m.To != first || !m.Fresh {
		t.Fatalf("first: %+v, want the same upstream, fresh", m)
	}
	if m := at.Next(dead); m.To == nil || m.To == first || m.Fresh {
		t.Fatalf("second: %+v, want the other upstream", m)
	}
	if m := at.Next(dead); m.To != nil || m.Kind != Terminated {
		t.Fatalf("third: %+v, want to give up after three sends", m)
	}
}

func TestNextNotToWhatLeft(t *testing.T) {
	s, ms := service(t, "a:100 b:100")
	at := s.Attempts("GET")
	first := at.First().To
	first.SetState(Draining)
	m := at.Next(Failure{Kind: Terminated, Written: true, Reused: true, BodyKept: true})
	if m.To == nil || m.To == first {
		t.Errorf("the first drains now: %+v, want the other", m)
	}
	for _, u := range ms {
		u.SetState(Leaving)
	}
	if m := at.Next(Failure{Kind: Refused, BodyKept: true}); m.To != nil || m.Kind != Refused {
		t.Errorf("all left: %+v, want the answer to the last failure", m)
	}
}

func TestNoEndpoint(t *testing.T) {
	s, _ := service(t, "a:100/draining")
	at := s.Attempts("GET")
	if u := at.First().To; u != nil || at.Tries() != 0 {
		t.Errorf("First: %v after %d tries, want nil", u, at.Tries())
	}
}

// Whatever fails, attempts end, no upstream is asked twice but for one fresh
// connection, and what is not idempotent is written at most once.
func TestAttemptsEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ms []Member
		for range rapid.IntRange(0, 12).Draw(t, "upstreams") {
			ms = append(ms, Member{&Upstream{Service: "web", ID: "x", Addr: "a:1"}, rapid.IntRange(0, 3).Draw(t, "weight")})
		}
		method := rapid.SampledFrom([]string{"GET", "POST", "PUT"}).Draw(t, "method")
		at := NewService("web", new(Stats), ms).Attempts(method)
		asked := make(map[*Upstream]int)
		written, freshed := 0, 0
		for u := at.First().To; u != nil; {
			asked[u]++
			f := Failure{
				Kind:    Kind(rapid.IntRange(int(NotReady), int(numKinds)-1).Draw(t, "kind")),
				Written: rapid.Bool().Draw(t, "written"), Answered: rapid.Bool().Draw(t, "answered"),
				Reused: rapid.Bool().Draw(t, "reused"), BodyKept: rapid.Bool().Draw(t, "kept"),
			}
			if f.Written {
				written++
			}
			m := at.Next(f)
			if m.To != nil && (f.Answered || !f.BodyKept) {
				t.Fatalf("repeated after %+v", f)
			}
			if m.Fresh {
				freshed++
				asked[u]--
			}
			u = m.To
		}
		for u, n := range asked {
			if n > 1 {
				t.Fatalf("upstream %p asked %d times", u, n)
			}
		}
		if written > maxSends || freshed > 1 || at.Tries() > maxTries || method == "POST" && written > 1 {
			t.Fatalf("%s: written %d times, %d fresh, %d tries", method, written, freshed, at.Tries())
		}
	})
}

func TestAnswers(t *testing.T) {
	for k := NotReady; k < numKinds; k++ {
		a := k.Answer()
		if a.Status < 400 || a.Status > 599 || a.Error == "" || len(a.Reason) < 10 || a.Reason[len(a.Reason)-1] != '.' {
			t.Errorf("kind %d: %+v, want a status from 400, an error type and a sentence", k, a)
		}
	}
	if got, want := Refused.Answer().ProxyStatus(), `muster; error=connection_refused; details="The endpoint refused the connection."`; got != want {
		t.Errorf("ProxyStatus: %s, want %s", got, want)
	}
}

// Where nobody is left to ask, a newer table may know somebody: what was tried
// and sent before counts on.
func TestRenew(t *testing.T) {
	old, ups := service(t, "a:100")
	at := old.Attempts("GET")
	first := at.First()
	if first.To != ups[0].Upstream {
		t.Fatalf("First: %v, want a", first.To)
	}
	m := at.Next(Failure{Kind: Refused, BodyKept: true})
	if m.To != nil || !m.Exhausted {
		t.Fatalf("the only one refused: %+v, want exhausted", m)
	}
	newer := NewService("web", new(Stats), []Member{ups[0], {&Upstream{Service: "web", ID: "b", Addr: "b:1"}, 100}})
	if m = at.Renew(newer, m.Kind); m.To == nil || m.To.ID != "b" || at.Tries() != 2 {
		t.Errorf("in a newer table: %+v after %d tries, want b after 2", m, at.Tries())
	}
	m = at.Next(Failure{Kind: Silent, Written: true, BodyKept: true})
	if m.To != nil || m.Exhausted {
		t.Errorf("silence is not repeated: %+v, want no other and not exhausted", m)
	}
}
