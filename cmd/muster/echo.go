package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"muster/cmd/internal/cli"
)

// echo is "muster echo": a server to balance when there is no other.
func echo(ctx context.Context, std cli.Std, args []string) int {
	f := cli.NewFlags("echo", "[flags]", echoHelp)
	listen := f.String("listen", "127.0.0.1:0", "`HOST:PORT` to serve on; port 0 takes a free one")
	name := f.String("name", "", "`NAME` to answer with (default the address)")
	delay := f.Duration("delay", 0, "`DURATION` to wait before every answer")
	var fail percent
	f.TextVar(&fail, "fail", fail, "`N%` of the answers that are 500, by chance")
	logger := f.Log(std)
	rest, command, code, ok := f.Parse(std, args)
	switch {
	case !ok:
		return code
	case len(rest)+len(command) > 0:
		return f.Wrong(std, "unexpected %q", strings.Join(append(rest, command...), " "))
	case *delay < 0:
		return f.Wrong(std, "-delay %v: want no negative one", *delay)
	}
	e, err := newEchoServer(*listen, *name, *delay, fail)
	if err != nil {
		fmt.Fprintf(std.Err, "muster echo: %v\n", err)
		return cli.Failed
	}
	fmt.Fprintf(std.Out, "%s\n", e.addr)
	ctx, stop := cli.Signals(ctx)
	defer stop()
	e.log = logger()
	if err := e.Run(ctx); err != nil {
		fmt.Fprintf(std.Err, "muster echo: %v\n", err)
		return cli.Failed
	}
	return cli.Done
}

const echoHelp = `Answers every request in plain text with who it is and what it was asked:
something to balance when there is nothing else. The first line printed is the
address. A request's query asks for another answer:

  ?delay=50ms        wait first
  ?status=503        answer with that status
  ?bytes=1048576     a body of so many bytes

GET /healthz answers 200, for checks; POST /healthz?status=503 changes that.`

// A percent is a flag such as 20%.
type percent float64

func (p percent) MarshalText() ([]byte, error) {
	return []byte(strconv.FormatFloat(float64(p), 'f', -1, 64)), nil
}

func (p *percent) UnmarshalText(text []byte) error {
	v, err := strconv.ParseFloat(strings.TrimSuffix(string(text), "%"), 64)
	if err != nil || !(v >= 0 && v <= 100) {
		return errors.New("want a percentage such as 20%")
	}
	*p = percent(v)
	return nil
}

// maxEchoBody bounds what ?bytes= may ask for.
const maxEchoBody = 16 << 30

// echoLeave is how long running answers may take once the server is told to
// end.
const echoLeave = 10 * time.Second

// An echoServer says who answered, and can be slow or failing on request.
type echoServer struct {
	name, addr string
	delay      time.Duration
	fail       percent
	log        *slog.Logger // nil: silence
	listener   net.Listener
	health     atomic.Int64  // what GET /healthz answers
	leaving    chan struct{} // closed when Run is asked to end: no answer waits longer
}

// newEchoServer takes the address, so that it is known before Run.
func newEchoServer(listen, name string, delay time.Duration, fail percent) (*echoServer, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	e := &echoServer{name: name, addr: l.Addr().String(), delay: delay, fail: fail, listener: l, leaving: make(chan struct{})}
	if name == "" {
		e.name = e.addr
	}
	e.health.Store(fasthttp.StatusOK)
	return e, nil
}

// Run serves until ctx ends and running answers are out.
func (e *echoServer) Run(ctx context.Context) error {
	server := &fasthttp.Server{
		Name:                          "muster echo",
		Handler:                       e.answer,
		Logger:                        echoLog{e.log},
		DisableHeaderNamesNormalizing: true,
		StreamRequestBody:             true,
		CloseOnShutdown:               true,
		IdleTimeout:                   time.Minute,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(e.listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	close(e.leaving)
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), echoLeave)
	defer cancel()
	err := server.ShutdownWithContext(leave)
	// Shutdown knows no listener yet where Serve has only begun, and would leave
	// it open.
	_ = e.listener.Close()
	return errors.Join(err, <-served)
}

// answer is every request but the checks.
func (e *echoServer) answer(ctx *fasthttp.RequestCtx) {
	size, _ := io.Copy(io.Discard, requestBody(ctx))
	query := ctx.QueryArgs()
	status := fasthttp.StatusOK
	if text := query.Peek("status"); text != nil {
		v, err := strconv.Atoi(string(text))
		if err != nil || v < 200 || v > 599 {
			ctx.Error(fmt.Sprintf("status %q: want 200 to 599\n", text), fasthttp.StatusBadRequest)
			return
		}
		status = v
	}
	if string(ctx.Path()) == "/healthz" {
		e.answerHealth(ctx, status)
		return
	}
	delay := e.delay
	if text := query.Peek("delay"); text != nil {
		v, err := time.ParseDuration(string(text))
		if err != nil || v < 0 {
			ctx.Error(fmt.Sprintf("delay %q: want a duration such as 50ms\n", text), fasthttp.StatusBadRequest)
			return
		}
		delay = v
	}
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-e.leaving:
		}
	}
	if e.fail > 0 && rand.Float64()*100 < float64(e.fail) {
		status = fasthttp.StatusInternalServerError
	}
	ctx.SetStatusCode(status)
	ctx.SetContentType("text/plain; charset=utf-8")
	if text := query.Peek("bytes"); text != nil {
		n, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil || n < 0 || n > maxEchoBody {
			ctx.Error(fmt.Sprintf("bytes %q: want 0 to %d\n", text, int64(maxEchoBody)), fasthttp.StatusBadRequest)
			return
		}
		ctx.SetBodyStream(io.LimitReader(filler{}, n), int(n))
		return
	}
	fmt.Fprintf(ctx, "%s at %s\n\n%s %s %s\n%s", e.name, e.addr,
		ctx.Method(), ctx.RequestURI(), ctx.Request.Header.Protocol(),
		bytes.ReplaceAll(ctx.Request.Header.RawHeaders(), []byte("\r\n"), []byte("\n")))
	if size > 0 {
		fmt.Fprintf(ctx, "a body of %d bytes\n", size)
	}
}

// answerHealth is GET /healthz; POST sets what GET answers.
func (e *echoServer) answerHealth(ctx *fasthttp.RequestCtx, status int) {
	if ctx.IsPost() {
		e.health.Store(int64(status))
	}
	status = int(e.health.Load())
	ctx.SetStatusCode(status)
	fmt.Fprintf(ctx, "%s: %s\n", e.name, strings.ToLower(fasthttp.StatusMessage(status)))
}

func requestBody(ctx *fasthttp.RequestCtx) io.Reader {
	if stream := ctx.RequestBodyStream(); stream != nil {
		return stream
	}
	return bytes.NewReader(ctx.PostBody())
}

// A filler reads as lines of text, without end.
type filler struct{}

const fillerLine = "muster echo muster echo muster echo muster echo muster echo mus\n"

func (filler) Read(p []byte) (int, error) {
	for n := 0; n < len(p); {
		n += copy(p[n:], fillerLine)
	}
	return len(p), nil
}

// An echoLog takes what fasthttp has to say of broken connections.
type echoLog struct{ log *slog.Logger }

func (l echoLog) Printf(format string, args ...any) {
	if l.log != nil {
		l.log.Debug("echo", "err", fmt.Sprintf(format, args...))
	}
}
