package main

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// maxGarbage is how much memory may wait for the collector. By itself it lets as
// much wait as is in use, and 100,000 endpoints use 75 MB.
const maxGarbage = 12 << 20

// firstMemory is what a start takes before the collector runs at all. Where
// everything grows it would run time and again and find nothing: while 100,000
// endpoints came from the disk, it took as much time as they did.
const firstMemory = 96 << 20

// firstPercent bounds the garbage from then on until the first snapshot is routed:
// half of what is in use by then are the answers that it was made of.
const firstPercent = 50

// leastPercent bounds what that costs: a collection for each seventh of what is
// in use.
const leastPercent = 15

// A heap keeps the garbage of a large balancer small. Who sets GOGC knows better.
type heap struct {
	mu       sync.Mutex
	starting bool   // the collector has not run, and nothing is routed
	live     uint64 // when the collector was last told
}

// begin is for a balancer that is about to list a store.
func (h *heap) begin() {
	switch {
	case os.Getenv("GOGC") != "":
		return
	case os.Getenv("GOMEMLIMIT") != "":
		debug.SetGCPercent(firstPercent)
		return
	}
	h.starting = true
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(firstMemory)
	// What nothing points to is found when the collector has run.
	runtime.AddCleanup(&struct{ self *heap }{h}, func(h *heap) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.started() {
			debug.SetGCPercent(firstPercent)
		}
	}, h)
}

// started ends what begin began, once. h.mu is held.
func (h *heap) started() (now bool) {
	if now = h.starting; now {
		h.starting = false
		debug.SetMemoryLimit(math.MaxInt64)
	}
	return now
}

// bound tells the collector of a heap that is much larger or smaller than
// before. It costs a microsecond, and is called after every plan.
func (h *heap) bound() {
	if os.Getenv("GOGC") != "" {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.started()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	now := live[0].Value.Uint64()
	if now > h.live*3/4 && now < h.live*5/4 {
		return
	}
	h.live = now
	debug.SetGCPercent(collectAt(now))
}

// collectAt is GOGC for so many bytes in use.
func collectAt(live uint64) int {
	return int(min(100, max(leastPercent, maxGarbage*100/max(live, 1))))
}

// settle gives back to the system what the first list took: the answers, and
// what was parsed on the way. It takes a tenth of a second for 100,000 endpoints,
// and nobody waits for it.
func (h *heap) settle() {
	debug.FreeOSMemory()
	h.bound()
}
