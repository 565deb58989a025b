//go:build !linux

package proxy

import "net"

// open opens an address.
func open(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }
