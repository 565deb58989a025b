package freeport

import "testing"

// No address is handed out twice, though nobody listens on any of them.
func TestAddrIsHandedOutOnce(t *testing.T) {
	seen := make(map[string]bool)
	for range 500 {
		addr, err := Addr()
		if err != nil {
			t.Fatal(err)
		}
		if seen[addr] {
			t.Fatalf("%s twice", addr)
		}
		seen[addr] = true
	}
}
