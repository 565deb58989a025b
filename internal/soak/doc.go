// Package soak has muster forward valid, hostile and aborted traffic for as long
// as asked, and looks whether every answer is the answer to its request and
// whether anything grows. It is tests only, on Linux:
//
//	go test ./internal/soak -v -args -for 1h -seed 7
package soak
