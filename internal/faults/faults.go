// Package faults is the fault suite: real etcd processes, real muster processes,
// a relay between them that breaks connections, and signals. Each test is named
// for the behaviour, and first proves that its fault bites: a plain
// concurrency.Session announcer or a plain clientv3 Watch, in the same scenario,
// does worse.
//
// The codes in the tests' comments (A7, W4) number the faults: A is the
// announcer's side, W the balancer's. Those that are about the store alone are
// tested in backends/etcd and discovery. README.md is the table of all of them, with
// how each is shown to bite. "make chaos" runs a long random mix.
package faults
