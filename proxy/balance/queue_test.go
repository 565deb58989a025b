package balance

import (
	"sync"
	"sync/atomic"
	"testing"
)

// limited is service with that limit and room to wait.
func limited(t testing.TB, text string, most, room int) *Service {
	s, _ := service(t, text)
	s.MaxConns, s.QueueSize = most, room
	return s
}

func TestMaxConns(t *testing.T) {
	s := limited(t, "a:100 b:100", 2, 0)
	var running []*Upstream
	for range 4 {
		at := s.Attempts("GET")
		running = append(running, at.First().To)
	}
	for _, m := range s.members {
		if n := m.InFlight(); n != 2 {
			t.Errorf("%s has %d in flight, want 2", m.ID, n)
		}
	}
	at := s.Attempts("GET")
	if m := at.First(); m.To != nil || m.Kind != Busy || at.Tries() != 0 {
		t.Errorf("the fifth: %+v after %d tries, want it to wait", m, at.Tries())
	}
	running[0].End(0, false)
	at = s.Attempts("GET")
	if m := at.First(); m.To != running[0] {
		t.Errorf("when one has ended: %+v, want that", m)
	}
	// The only other one is full: what failed is told, and not that.
	running[0].End(0, true)
	if m := at.Next(Failure{Kind: Refused, BodyKept: true}); m.To != nil || m.Kind != Refused {
		t.Errorf("after a failure: %+v, want the answer to it", m)
	}
}

// A reused connection that died gets no fresh one while the upstream is full again.
func TestMaxConnsOfFresh(t *testing.T) {
	s := limited(t, "a:100", 1, 0)
	at, other := s.Attempts("GET"), s.Attempts("GET")
	at.First().To.End(0, true)
	other.First()
	if m := at.Next(Failure{Kind: Terminated, Reused: true, BodyKept: true}); m.To != nil || m.Kind != Terminated {
		t.Errorf("%+v, want the answer to the failure", m)
	}
}

func TestQueueInOrder(t *testing.T) {
	s := limited(t, "a:100", 1, 3)
	first := s.Attempts("GET")
	u := first.First().To
	a, b, c := s.Queue(), s.Queue(), s.Queue()
	if s.Queue() != nil {
		t.Fatal("a fourth place of three")
	}
	told := func(p *Place) bool {
		select {
		case <-p.Ready():
			return true
		default:
			return false
		}
	}
	if !told(a) || told(b) || told(c) {
		t.Error("want the first to try at once, and nobody else")
	}
	if at := s.Attempts("GET"); at.Renew(s, NoEndpoint).Kind != Busy {
		t.Error("the upstream is full, want Busy")
	}
	b.Leave()
	u.End(0, false)
	s.Freed()
	if !told(a) || told(c) {
		t.Error("want the first told of what is free")
	}
	late := s.Attempts("GET")
	if m := late.First(); m.Kind != Busy {
		t.Errorf("who comes later: %+v, want it to wait behind", m)
	}
	a.Leave()
	if !told(c) {
		t.Error("want the next told when the first has left: there may be more free")
	}
	c.Leave()
	if n := s.Stats.Queued(); n != 0 {
		t.Errorf("%d wait, want none", n)
	}
}

// Everybody gets through, and no upstream has more than it may.
func TestQueueLosesNobody(t *testing.T) {
	s := limited(t, "a:100 b:50", 2, 1000)
	var wg sync.WaitGroup
	var served atomic.Int64
	for range 16 {
		wg.Go(func() {
			for range 200 {
				at := s.Attempts("GET")
				m := at.First()
				if m.Kind == Busy {
					p := s.Queue()
					for m.Kind == Busy {
						<-p.Ready()
						m = at.Renew(s, NoEndpoint)
					}
					p.Leave()
				}
				if n := m.To.InFlight(); n > 2 {
					t.Errorf("%s has %d in flight, want 2 at most", m.To.ID, n)
				}
				served.Add(1)
				m.To.End(0, false)
				s.Freed()
			}
		})
	}
	wg.Wait()
	if n := served.Load(); n != 16*200 {
		t.Errorf("%d served, want %d", n, 16*200)
	}
}
