package etcdtest

import (
	"context"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"
)

type options struct {
	certs          *Certs
	mutual         bool
	user, password string
	prefixes       []string
	flags          []string
	old            bool
}

// An Option changes how etcd is started.
type Option func(*options)

// TLS serves clients with c's server certificate.
func TLS(c Certs) Option {
	return func(o *options) { o.certs = &c }
}

// MutualTLS is TLS that asks for a client certificate of c's CA.
func MutualTLS(c Certs) Option {
	return func(o *options) { o.certs, o.mutual = &c, true }
}

// Auth turns on authentication: root with [RootPassword], and user, who may
// read and write the keys that begin with one of prefixes, or every key if none
// is given.
func Auth(user, password string, prefixes ...string) Option {
	return func(o *options) { o.user, o.password, o.prefixes = user, password, prefixes }
}

// TokenTTL is how many seconds a login is good for under [Auth].
func TokenTTL(seconds int) Option {
	return Flags("--auth-token-ttl", strconv.Itoa(seconds))
}

// Old is the etcd 3.4 or 3.5 that Debian has: of before the mistakes of its
// watches were mended (progress that was not told, or too early). Where it is
// missing, see [proctest.Need].
func Old() Option {
	return func(o *options) { o.old = true }
}

// Flags are handed to etcd as they are.
func Flags(flags ...string) Option {
	return func(o *options) { o.flags = append(o.flags, flags...) }
}

func (s *Server) enableAuth() {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	c := s.newClient("", "")
	defer c.Close()
	do := func(what string, err error) {
		s.tb.Helper()
		if err != nil {
			s.tb.Fatalf("etcdtest: %s: %v", what, err)
		}
	}
	_, err := c.UserAdd(ctx, "root", RootPassword)
	do("add root", err)
	_, err = c.UserGrantRole(ctx, "root", "root")
	do("grant root", err)
	_, err = c.UserAdd(ctx, s.opts.user, s.opts.password)
	do("add user", err)
	_, err = c.RoleAdd(ctx, s.opts.user)
	do("add role", err)
	prefixes := s.opts.prefixes
	if len(prefixes) == 0 {
		prefixes = []string{""}
	}
	for _, p := range prefixes {
		key, end := p, clientv3.GetPrefixRangeEnd(p)
		if p == "" {
			key, end = "\x00", "\x00"
		}
		_, err = c.RoleGrantPermission(ctx, s.opts.user, key, end, clientv3.PermissionType(clientv3.PermReadWrite))
		do("grant permission", err)
	}
	_, err = c.UserGrantRole(ctx, s.opts.user, s.opts.user)
	do("grant role", err)
	_, err = c.AuthEnable(ctx)
	do("enable", err)
}
