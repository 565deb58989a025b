// Package procstat is what the system says that a process has used, for tests
// and benchmarks. Other systems than Linux say nothing.
package procstat
