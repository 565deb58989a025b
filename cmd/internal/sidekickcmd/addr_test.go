package sidekickcmd

import (
	"net/netip"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	var all []address
	for _, text := range []string{
		"127.0.0.1 lo", "::1 lo", "10.0.0.5 eth0", "fd00::5 eth0", "192.168.1.7 eth1", "192.168.1.8 eth1", "fd01::7 eth2", "172.17.0.1 docker0",
	} {
		addr, iface, _ := strings.Cut(text, " ")
		all = append(all, address{netip.MustParseAddr(addr), iface})
	}
	for _, tt := range []struct{ iface, cidr, want string }{
		{"eth0", "", "10.0.0.5"}, // IPv4 first
		{"eth2", "", "fd01::7"},
		{"lo", "", "127.0.0.1"},
		{"", "10.0.0.0/8", "10.0.0.5"},
		{"", "fd00::/16", "fd00::5"},
		{"", "127.0.0.0/8", "127.0.0.1"},
		{"eth0", "::/0", "fd00::5"},
		{"eth1", "192.168.1.8/32", "192.168.1.8"},
		{"eth9", "", "-interface eth9: no address of this machine fits: it has 127.0.0.1 (lo), ::1 (lo), 10.0.0.5 (eth0), fd00::5 (eth0)"},
		{"eth0", "192.168.0.0/16", "-interface eth0 and -cidr 192.168.0.0/16: no address of this machine fits"},
		{"eth1", "", "-interface eth1: more than one address fits: 192.168.1.7 (eth1), 192.168.1.8 (eth1): narrow it down by -cidr, or give -addr HOST:PORT"},
		{"", "0.0.0.0/0", "more than one address fits: 10.0.0.5 (eth0), 192.168.1.7 (eth1), 192.168.1.8 (eth1), 172.17.0.1 (docker0):"},
	} {
		var cidr netip.Prefix
		if tt.cidr != "" {
			cidr = netip.MustParsePrefix(tt.cidr).Masked()
		}
		got, err := choose(all, tt.iface, cidr)
		switch {
		case err == nil && got.String() != tt.want:
			t.Errorf("choose(%q, %q): got %v: want %s", tt.iface, tt.cidr, got, tt.want)
		case err != nil && !strings.Contains(err.Error(), tt.want):
			t.Errorf("choose(%q, %q): got %v: want %q", tt.iface, tt.cidr, err, tt.want)
		}
	}
}
