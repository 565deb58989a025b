package main

import (
	"fmt"
	"strings"
)

// A workload is one kind of traffic.
type workload struct {
	name        string
	body        int  // bytes of the answer
	post        int  // bytes of the request's body
	connections int  // of the client
	fresh       bool // a connection for each request
	backends    int
	rate        float64 // Poisson arrivals a second for the latencies; 0: none are taken
	fixed       bool    // the processor time is taken at that rate, not at saturation
	idle        bool    // no traffic: memory of idle connections
	noFloor     bool    // a pipe can't do it
}

var workloads = []workload{
	{name: "get200", body: 200, connections: 64, backends: 1, rate: 2000},
	{name: "get16k", body: 16 << 10, connections: 64, backends: 1, rate: 2000},
	{name: "get1m", body: 1 << 20, connections: 16, backends: 1, rate: 100},
	{name: "post1k", body: 200, post: 1 << 10, connections: 64, backends: 1, rate: 2000},
	{name: "conn", body: 200, connections: 64, fresh: true, backends: 1, rate: 1000, noFloor: true},
	{name: "fleet", body: 200, connections: 1000, backends: 30, rate: 2000},
	{name: "rate5000", body: 200, connections: 64, backends: 1, rate: 5000, fixed: true},
	{name: "idle", body: 200, connections: 10_000, backends: 1, idle: true, noFloor: true},
}

// request is what a client sends: what a browser behind a CDN might, about 350
// bytes.
func (w workload) request() []byte {
	var b strings.Builder
	method, length := "GET", ""
	if w.post > 0 {
		method, length = "POST", fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", w.post)
	}
	fmt.Fprintf(&b, "%s /items/%d?page=2 HTTP/1.1\r\nHost: bench.test\r\n", method, w.body)
	b.WriteString("User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\r\n")
	b.WriteString("Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n")
	b.WriteString("Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\nAccept-Encoding: gzip, deflate, br\r\n")
	b.WriteString("Cookie: session=0123456789abcdef0123456789abcdef\r\n" + length)
	if w.fresh {
		b.WriteString("Connection: close\r\n")
	}
	b.WriteString("\r\n")
	return append([]byte(b.String()), filler(w.post)...)
}

// response is what an origin answers.
func (w workload) response() []byte {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\nCache-Control: no-store\r\n\r\n", w.body)
	return append([]byte(head), filler(w.body)...)
}

// filler is n bytes that do not repeat within a line of a cache.
func filler(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + (i+i/251)%26)
	}
	return b
}
