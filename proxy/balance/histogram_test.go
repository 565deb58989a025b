package balance

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBuckets(t *testing.T) {
	for i := range numBuckets {
		from := uint64(BucketFrom(i) / time.Microsecond)
		if got := bucket(from); got != i {
			t.Errorf("bucket(%d): %d, want %d, which begins there", from, got, i)
		}
		if from > 0 && bucket(from-1) != i-1 {
			t.Errorf("bucket(%d): %d, want %d", from-1, bucket(from-1), i-1)
		}
	}
	if got := bucket(1 << 60); got != numBuckets-1 {
		t.Errorf("bucket of the longest: %d, want the last", got)
	}
}

func TestQuantile(t *testing.T) {
	if got := Quantile(nil, 0.5); got != 0 {
		t.Errorf("Quantile of nothing: %v", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		var h Histogram
		d := time.Duration(rapid.Int64Range(int64(10*time.Microsecond), int64(4*time.Minute)).Draw(t, "d"))
		for range 99 {
			h.Observe(d)
		}
		h.Observe(0)
		got := Quantile(h.Buckets(), rapid.Float64Range(0.05, 1).Draw(t, "q"))
		if off := got - d; off > d/8 || off < -d/8 {
			t.Fatalf("Quantile: %v, want %v to within an eighth", got, d)
		}
	})
	var h Histogram
	h.Observe(time.Second)
	h.Observe(-time.Second)
	if h.Sum() != time.Second {
		t.Errorf("Sum: %v, want 1s", h.Sum())
	}
}
