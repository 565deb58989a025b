package confd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// The levels that confd has beside slog's.
const (
	levelTrace = slog.LevelDebug - 4
	levelFatal = slog.LevelError + 4
	levelPanic = slog.LevelError + 8
)

func parseLevel(name string) (slog.Level, error) {
	switch strings.ToLower(name) {
	case "panic":
		return levelPanic, nil
	case "fatal":
		return levelFatal, nil
	case "error":
		return slog.LevelError, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "", "info":
		return slog.LevelInfo, nil
	case "debug":
		return slog.LevelDebug, nil
	case "trace":
		return levelTrace, nil
	}
	return 0, fmt.Errorf("not a valid level: %q", name)
}

// A handler writes log lines as confd does:
//
//	2026-01-02T15:04:05Z host confd[17]: INFO Starting confd
//
// Attributes, which only the stores' own lines have, follow the message.
type handler struct {
	level slog.Leveler
	tag   string // "host confd[17]"
	attrs string

	mu  *sync.Mutex
	out io.Writer
}

func newHandler(out io.Writer, level slog.Leveler, argv0 string) *handler {
	host, _ := os.Hostname()
	return &handler{level: level, tag: fmt.Sprintf("%s %s[%d]", host, argv0, os.Getpid()), mu: new(sync.Mutex), out: out}
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	var attrs strings.Builder
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&attrs, " %s=%v", a.Key, a.Value)
		return true
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := fmt.Fprintf(h.out, "%s %s: %s %s%s%s\n", r.Time.Format(time.RFC3339), h.tag, levelName(r.Level), r.Message, h.attrs, attrs.String())
	return err
}

func levelName(l slog.Level) string {
	switch {
	case l >= levelPanic:
		return "PANIC"
	case l >= levelFatal:
		return "FATAL"
	case l >= slog.LevelError:
		return "ERROR"
	case l >= slog.LevelWarn:
		return "WARNING"
	case l >= slog.LevelInfo:
		return "INFO"
	}
	return "DEBUG"
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	for _, a := range attrs {
		c.attrs += fmt.Sprintf(" %s=%v", a.Key, a.Value)
	}
	return &c
}

func (h *handler) WithGroup(string) slog.Handler { return h }
