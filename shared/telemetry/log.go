// Package telemetry is how a process shows itself: JSON logs on a writer, Prometheus
// metrics and health over HTTP.
package telemetry

import (
	"fmt"
	"io"

	"github.com/rs/zerolog"
)

// Logger returns a logger of JSON lines, from the given level on (trace, debug, info, warn,
// error). It may be used concurrently if w may.
func Logger(w io.Writer, level string) (zerolog.Logger, error) {
	l, err := zerolog.ParseLevel(level)
	if err != nil || level == "" {
		return zerolog.Nop(), fmt.Errorf("LOG_LEVEL is %q, must be trace, debug, info, warn or error", level)
	}
	return zerolog.New(w).Level(l).With().Timestamp().Logger(), nil
}
