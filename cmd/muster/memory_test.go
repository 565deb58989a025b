package main

import "testing"

func TestCollectAt(t *testing.T) {
	for live, want := range map[uint64]int{0: 100, 4 << 20: 100, 20 << 20: 100, 40 << 20: 50, 80 << 20: 25, 10 << 30: 25} {
		if got := collectAt(live); got != want {
			t.Errorf("collectAt(%d MiB) = %d, want %d", live>>20, got, want)
		}
	}
}
