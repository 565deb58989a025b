package sidekickcmd

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"muster/backends/etcd"
)

// An address is one of this machine's.
type address struct {
	netip.Addr
	iface string
}

func (a address) String() string { return fmt.Sprintf("%s (%s)", a.Addr, a.iface) }

// machine is every address of the interfaces that are up, but for those that
// mean something on one link only.
func machine() (all []address, err error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, i := range interfaces {
		addrs, err := i.Addrs()
		if err != nil || i.Flags&net.FlagUp == 0 {
			continue // it may have gone
		}
		for _, a := range addrs {
			prefix, err := netip.ParsePrefix(a.String())
			if err == nil && !prefix.Addr().IsLinkLocalUnicast() {
				all = append(all, address{prefix.Addr().Unmap(), i.Name})
			}
		}
	}
	return all, nil
}

// list names addresses in an error.
func list(all []address) string {
	if len(all) == 0 {
		return "none"
	}
	var texts []string
	for _, a := range all {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ", ")
}

// choose picks the one address of all that is on iface, if that is not empty,
// and within cidr, if that is valid. IPv4 goes before IPv6, unless cidr is IPv6.
// Loopback has to be asked for.
func choose(all []address, iface string, cidr netip.Prefix) (netip.Addr, error) {
	var asked []string
	fit := slices.Clone(all)
	keep := func(want func(address) bool) {
		fit = slices.DeleteFunc(fit, func(a address) bool { return !want(a) })
	}
	if iface != "" {
		asked = append(asked, "-interface "+iface)
		keep(func(a address) bool { return a.iface == iface })
	}
	if cidr.IsValid() {
		asked = append(asked, "-cidr "+cidr.String())
		keep(cidrHas(cidr))
	}
	if iface == "" && !cidr.Addr().IsLoopback() {
		keep(func(a address) bool { return !a.IsLoopback() })
	}
	if slices.ContainsFunc(fit, func(a address) bool { return a.Is4() }) {
		keep(func(a address) bool { return a.Is4() })
	}
	what := strings.Join(asked, " and ")
	switch len(fit) {
	case 0:
		return netip.Addr{}, fmt.Errorf("%s: no address of this machine fits: it has %s", what, list(all))
	case 1:
		return fit[0].Addr, nil
	default:
		return netip.Addr{}, fmt.Errorf("%s: more than one address fits: %s: narrow it down by -cidr, or give -addr HOST:PORT", what, list(fit))
	}
}

func cidrHas(cidr netip.Prefix) func(address) bool {
	return func(a address) bool { return cidr.Contains(a.Addr) }
}

// chosenHost is the host of an address that has none: as iface and network say,
// else as the environment does, else the address from which packets go to etcd.
// now is false where the flags are right but the machine is not ready.
func (f *flags) chosenHost(ctx context.Context, env foreign, iface, network string) (host string, now bool, err error) {
	if iface != "" || network != "" {
		var cidr netip.Prefix
		if network != "" {
			if cidr, err = netip.ParsePrefix(network); err != nil {
				return "", true, fmt.Errorf("-cidr %q: want ADDRESS/BITS such as 10.0.0.0/8", network)
			}
		}
		all, err := machine()
		if err != nil {
			return "", false, err
		}
		addr, err := choose(all, iface, cidr.Masked())
		return addr.String(), false, err
	}
	if host, variable := env.host(); host != "" {
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return "", true, fmt.Errorf("environment variable %s=%q: want an IP address", variable, host)
		}
		return addr.String(), true, nil
	}
	addr, err := routeSource(ctx, f.store)
	return addr.String(), false, err
}

// routeSource is the address of this machine from which packets go to the first
// member of etcd that there is a route to.
func routeSource(ctx context.Context, store string) (netip.Addr, error) {
	cfg, err := etcd.ParseURL(store)
	if err != nil {
		return netip.Addr{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // for the resolver
	defer cancel()
	for _, node := range cfg.Nodes {
		var source netip.Addr
		if source, err = sourceTo(ctx, node); err != nil {
			continue
		}
		if !source.IsLoopback() {
			return source, nil
		}
		err = fmt.Errorf("etcd at %s is on this machine, so the way to it does not tell", node)
	}
	all, _ := machine()
	all = slices.DeleteFunc(all, func(a address) bool { return a.IsLoopback() })
	return netip.Addr{}, fmt.Errorf("at which address others reach this machine: %w: give -addr HOST:PORT, -interface or -cidr; it has %s", err, list(all))
}

// sourceTo asks the kernel: connecting by UDP sends nothing.
func sourceTo(ctx context.Context, node string) (netip.Addr, error) {
	if _, rest, ok := strings.Cut(node, "://"); ok {
		node = rest
	}
	if _, _, err := net.SplitHostPort(node); err != nil {
		node = net.JoinHostPort(strings.Trim(node, "[]"), "2379")
	}
	conn, err := new(net.Dialer).DialContext(ctx, "udp", node)
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone(""), nil
}
