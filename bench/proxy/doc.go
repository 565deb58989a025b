// Command proxy measures what one request costs in muster's proxy and in its
// peers, side by side in one run:
//
//	make bench                     # the figures to quote: minutes
//	go run ./bench/proxy -h
//
// The load generator and the origins share one thread on one core; the proxy
// under test has another. Every proxy gets the same bytes. The figure is the
// proxy's own processor time for each request, from the kernel's clock of its
// process, at saturation; latencies come from a fixed rate of Poisson arrivals and
// count from the moment a request was due, not from when it could be sent. Rounds
// go through all proxies before the next begins, so that what disturbs the machine
// disturbs them alike. A ratio is of two medians of one run; nothing else is
// comparable between machines.
package main
