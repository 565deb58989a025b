package main

import (
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// The two proxies that a Go programmer writes in an hour: no checks, no retries, no
// figures, no log.

// fastHTTP is a proxy by fasthttp.
func fastHTTP(listen string, backends []string) error {
	clients := make([]*fasthttp.HostClient, len(backends))
	for i, b := range backends {
		clients[i] = &fasthttp.HostClient{
			Addr: b, MaxConns: 20_000, NoDefaultUserAgentHeader: true,
			DisableHeaderNamesNormalizing: true, DisablePathNormalizing: true,
		}
	}
	var turn atomic.Uint64
	server := &fasthttp.Server{
		NoDefaultServerHeader: true, NoDefaultDate: true, NoDefaultContentType: true, DisableHeaderNamesNormalizing: true,
		Handler: func(ctx *fasthttp.RequestCtx) {
			last := ctx.Request.ConnectionClose()
			ctx.Request.Header.Del("Connection")
			ctx.Request.Header.Set("X-Forwarded-For", ctx.RemoteIP().String())
			if err := clients[turn.Add(1)%uint64(len(clients))].Do(&ctx.Request, &ctx.Response); err != nil {
				ctx.Error(err.Error(), fasthttp.StatusBadGateway)
				return
			}
			ctx.Response.Header.Del("Connection")
			if last {
				ctx.SetConnectionClose()
			}
		},
	}
	return server.ListenAndServe(listen)
}

// netHTTP is a proxy by net/http and its ReverseProxy.
func netHTTP(listen string, backends []string) error {
	var turn atomic.Uint64
	urls := make([]*url.URL, len(backends))
	for i, b := range backends {
		urls[i] = &url.URL{Scheme: "http", Host: b}
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(urls[turn.Add(1)%uint64(len(urls))])
			r.SetXForwarded()
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 20_000, DisableCompression: true},
	}
	server := &http.Server{Addr: listen, Handler: proxy, ReadHeaderTimeout: 10 * time.Second}
	log.SetFlags(0)
	return server.ListenAndServe()
}
