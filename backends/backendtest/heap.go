package backendtest

import "runtime"

// Heap is how much memory is in use, in bytes, what nobody needs swept away.
func Heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
