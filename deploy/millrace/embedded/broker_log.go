package embedded

import (
	"errors"
	"fmt"
	"sync"

	"github.com/rs/zerolog"
)

// brokerLog hands the warnings and errors of the server on. What the server calls fatal
// is remembered and ends nothing: StartBroker reports it. It may be called concurrently.
type brokerLog struct {
	log zerolog.Logger

	mu    sync.Mutex
	first error // what was fatal first
}

// failure returns what was fatal, nil where nothing was.
func (l *brokerLog) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// Fatalf implements the server's Logger.
func (l *brokerLog) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.mu.Lock()
	if l.first == nil {
		l.first = errors.New(text)
	}
	l.mu.Unlock()
	l.log.Error().Str("detail", text).Msg("broker failed")
}

// Errorf implements the server's Logger.
func (l *brokerLog) Errorf(format string, v ...any) {
	l.log.Error().Str("detail", fmt.Sprintf(format, v...)).Msg("broker error")
}

// Warnf implements the server's Logger.
func (l *brokerLog) Warnf(format string, v ...any) {
	l.log.Warn().Str("detail", fmt.Sprintf(format, v...)).Msg("broker warning")
}

// Noticef implements the server's Logger: what happens every day is not logged.
func (*brokerLog) Noticef(string, ...any) {}

// Debugf implements the server's Logger.
func (*brokerLog) Debugf(string, ...any) {}

// Tracef implements the server's Logger.
func (*brokerLog) Tracef(string, ...any) {}
