package main

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// maxGarbage is how much memory may wait for the collector. By itself it lets as
// much wait as is in use, and 100,000 endpoints use 75 MB.
const maxGarbage = 20 << 20

// firstPercent bounds it until the first snapshot is routed: half of what is in
// use by then are the answers that it was made of.
const firstPercent = 50

// leastPercent bounds what that costs: a collection for each quarter of what is
// in use.
const leastPercent = 25

// A heap keeps the garbage of a large balancer small. Who sets GOGC knows better.
type heap struct {
	mu   sync.Mutex
	live uint64 // when the collector was last told
}

// begin is for a balancer that is about to list a store.
func (h *heap) begin() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(firstPercent)
	}
}

// bound tells the collector of a heap that is much larger or smaller than
// before. It costs a microsecond, and is called after every plan.
func (h *heap) bound() {
	if os.Getenv("GOGC") != "" {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
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
