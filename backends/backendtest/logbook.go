package backendtest

import (
	"log/slog"
	"strings"
	"sync"
)

// A Logbook is a log that can be asked.
type Logbook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *Logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// Count is how often part was logged.
func (l *Logbook) Count(part string) int { return strings.Count(l.String(), part) }

// String is all that was logged.
func (l *Logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Logger writes into l.
func (l *Logbook) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }
