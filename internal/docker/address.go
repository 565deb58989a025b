package docker

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// address is where others reach a port of c.
func (o origin) address(c *container.InspectResponse, w wish) (string, error) {
	port := strconv.Itoa(int(w.port))
	mode := ""
	if c.HostConfig != nil {
		mode = string(c.HostConfig.NetworkMode)
	}
	networks, ports := map[string]*network.EndpointSettings(nil), network.PortMap(nil)
	if c.NetworkSettings != nil {
		networks, ports = c.NetworkSettings.Networks, c.NetworkSettings.Ports
	}
	wanted := w.network
	if wanted == "" {
		wanted = o.Network
	}
	switch {
	case mode == "host":
		if o.Remote && isLoopback(o.HostIP) {
			return "", fmt.Errorf("port %s is on the machine's own network, of which only the address %s is known", port, o.HostIP)
		}
		return net.JoinHostPort(o.HostIP, port), nil
	case strings.HasPrefix(mode, "container:"):
		return "", errors.New("it shares the network of another container: label that one, which has the ports")
	case wanted != "":
		ip := addressOn(networks[wanted])
		if !ip.IsValid() {
			return "", fmt.Errorf("network %q: it is not there, but on %s", wanted, names(networks))
		}
		return net.JoinHostPort(ip.String(), port), nil
	}
	number, _ := network.PortFrom(w.port, network.TCP)
	if bound := ports[number]; len(bound) > 0 {
		return o.published(bound, port)
	}
	if o.Remote {
		return "", fmt.Errorf("port %s is not published, so that others can't reach it: publish it, or name a network they reach", port)
	}
	var own []netip.Addr
	for _, n := range networks {
		if ip := addressOn(n); ip.IsValid() {
			own = append(own, ip)
		}
	}
	switch len(own) {
	case 0:
		return "", fmt.Errorf("port %s is not published, and the container has no address of its own", port)
	case 1:
		return net.JoinHostPort(own[0].String(), port), nil
	}
	return "", fmt.Errorf("port %s is not published, and the container is on %s: name one of them", port, names(networks))
}

// published is the first of bound that others reach, IPv4 before IPv6.
func (o origin) published(bound []network.PortBinding, port string) (string, error) {
	bound = slices.SortedStableFunc(slices.Values(bound), func(a, b network.PortBinding) int { return a.HostIP.BitLen() - b.HostIP.BitLen() })
	for _, b := range bound {
		host := b.HostIP.String()
		if !b.HostIP.IsValid() || b.HostIP.IsUnspecified() {
			host = o.HostIP
		}
		if o.Remote && isLoopback(host) {
			continue
		}
		return net.JoinHostPort(host, b.HostPort), nil
	}
	return "", fmt.Errorf("port %s is published on loopback only, where other machines can't reach it", port)
}

func addressOn(n *network.EndpointSettings) netip.Addr {
	if n == nil {
		return netip.Addr{}
	}
	if n.IPAddress.IsValid() {
		return n.IPAddress
	}
	return n.GlobalIPv6Address
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func names(networks map[string]*network.EndpointSettings) string {
	all := slices.Sorted(maps.Keys(networks))
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}
