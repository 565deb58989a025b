package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"

	"muster/internal/proctest"
)

func TestCollectAt(t *testing.T) {
	for live, want := range map[uint64]int{0: 100, 4 << 20: 100, 12 << 20: 100, 24 << 20: 50, 80 << 20: 15, 10 << 30: 15} {
		if got := collectAt(live); got != want {
			t.Errorf("collectAt(%d MiB) = %d, want %d", live>>20, got, want)
		}
	}
}

// A start has room before the collector runs; then, or when something is routed,
// it is bound as ever. What somebody has set in the environment stays.
func TestHeapOfAStart(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer debug.SetGCPercent(percent)
	defer debug.SetMemoryLimit(limit)
	is := func(when string, wantPercent int, wantLimit int64) {
		t.Helper()
		percent := debug.SetGCPercent(100)
		debug.SetGCPercent(percent)
		if limit := debug.SetMemoryLimit(-1); percent != wantPercent || limit != wantLimit {
			t.Errorf("%s: collected at %d %% and %d MiB, want %d and %d", when, percent, limit>>20, wantPercent, wantLimit>>20)
		}
	}
	t.Setenv("GOGC", "100")
	new(heap).begin()
	is("with the user's GOGC", 100, limit)
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "1GiB")
	new(heap).begin()
	is("with the user's limit", firstPercent, limit)

	t.Setenv("GOMEMLIMIT", "")
	h := new(heap)
	h.begin()
	is("begun", -1, firstMemory)
	runtime.GC()
	proctest.Eventually(t, "the bounds after the first collection", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return !h.starting
	})
	is("collected once", firstPercent, math.MaxInt64)
	h.bound()
	is("bound", collectAt(h.live), math.MaxInt64)

	h = new(heap)
	h.begin()
	h.bound()
	is("bound before it was ever collected", collectAt(h.live), math.MaxInt64)
	runtime.GC()
	runtime.GC()
	is("collected after that", collectAt(h.live), math.MaxInt64)
}
