package etcd

import (
	"testing"
	"time"
)

// Events that follow each other slowly are never held up; a thousand a second are
// gathered; a backlog is taken without a rest; and a storm ends.
func TestStormRests(t *testing.T) {
	now := time.Unix(1, 0)
	var s storm
	event := func(wait time.Duration) bool {
		now = now.Add(wait)
		return s.rests(now, wait)
	}
	for i := range 200 {
		if event(5 * time.Millisecond) {
			t.Fatalf("rests behind event %d of 200 a second", i)
		}
	}
	rests := 0
	for range 1000 { // one each millisecond
		if !event(time.Millisecond) {
			continue
		}
		rests++
		now = now.Add(restFor)
		for range 10 {
			if event(time.Microsecond) {
				t.Fatal("rests while events are there")
			}
		}
	}
	if rests < 900 {
		t.Errorf("rested %d times of 1000 in a storm, want nearly each", rests)
	}
	if event(time.Second) || event(5*time.Millisecond) {
		t.Error("rests when the storm has passed")
	}
}
