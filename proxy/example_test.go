package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"muster/catalog"
	"muster/proxy"
)

func Example() {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") }))
	defer app.Close()

	p := proxy.New(proxy.Config{})
	p.Update(&proxy.Plan{
		Ready:     true,
		Listeners: []proxy.Listener{{Bind: "127.0.0.1:0"}},
		Routes:    []proxy.Route{{Route: catalog.Route{Path: "/"}, Service: "web"}},
		Services: []*proxy.Service{{Name: "web", Endpoints: []*catalog.Endpoint{
			{Service: "web", ID: "1", Announcement: catalog.Announcement{Addr: strings.TrimPrefix(app.URL, "http://"), Weight: 100, State: catalog.Up}},
		}}},
	})
	if err := p.Listen(); err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()

	res, err := http.Get("http://" + p.Addrs()[0])
	if err != nil {
		fmt.Println(err)
		return
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	fmt.Println(res.StatusCode, string(body))

	http.DefaultClient.CloseIdleConnections()
	cancel()
	fmt.Println(<-done)
	// Output:
	// 200 hello
	// <nil>
}
