// This file runs once per request.

package balance

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// A Histogram counts durations in buckets whose width grows with them: eight
// for each doubling, so a quantile is off by at most an eighth. It takes
// microseconds up to four minutes; what is longer counts as that. Any number of
// goroutines may use it. The zero value is empty.
type Histogram struct {
	sum     atomic.Uint64 // microseconds
	buckets [numBuckets]atomic.Uint64
}

const numBuckets = 8 * 26

// bucket is the number of the bucket that us microseconds fall into: below 8
// the number itself, then three bits behind the leading one.
func bucket(us uint64) int {
	if us < 8 {
		return int(us)
	}
	shift := bits.Len64(us) - 4
	return min(8*shift+int(us>>shift), numBuckets-1)
}

// BucketFrom is the shortest duration that bucket i counts; it ends where the
// next begins.
func BucketFrom(i int) time.Duration {
	if i < 16 {
		return time.Duration(i) * time.Microsecond
	}
	return time.Duration(i%8+8) << (i/8 - 1) * time.Microsecond
}

// Observe counts d.
func (h *Histogram) Observe(d time.Duration) {
	us := uint64(max(d, 0) / time.Microsecond)
	h.sum.Add(us)
	h.buckets[bucket(us)].Add(1)
}

// Sum is the total of all durations that were counted.
func (h *Histogram) Sum() time.Duration { return time.Duration(h.sum.Load()) * time.Microsecond }

// Buckets is a copy of the counts; nil for a nil histogram.
func (h *Histogram) Buckets() []uint64 {
	if h == nil {
		return nil
	}
	counts := make([]uint64, numBuckets)
	for i := range counts {
		counts[i] = h.buckets[i].Load()
	}
	return counts
}

// Quantile is the duration that the fraction q of counts does not exceed: the
// middle of its bucket. Zero where nothing was counted.
func Quantile(counts []uint64, q float64) time.Duration {
	var total uint64
	for _, n := range counts {
		total += n
	}
	if total == 0 {
		return 0
	}
	rank := uint64(q * float64(total))
	var seen uint64
	for i, n := range counts {
		if seen += n; seen > rank || seen == total {
			return (BucketFrom(i) + BucketFrom(i+1)) / 2
		}
	}
	return 0
}
