package up

import (
	"errors"
	"io"
	"path/filepath"

	"github.com/rs/zerolog"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/jobspy/millrace/shared/contract"
)

// The rotation of log files.
const (
	logMegabytes = 20 // the size at which a file is rotated
	logBackups   = 5  // rotated files kept
	logDays      = 14
)

// The parts of the line that have a log folder of their own.
const (
	logProcessing = "llm_processing" // ingest, validate, enrich, standardize
	logRouter     = "router"         // route, scrape, aggregate
	logScheduler  = "scheduler"      // archive, and everything that is no stage
)

// logs are the rotated log files of all parts, beside a writer that takes every line.
type logs struct {
	all     io.Writer
	level   zerolog.Level
	files   map[string]*lumberjack.Logger
	console zerolog.Level // lines below it go to the files alone
}

func openLogs(dir string, all io.Writer, level, console zerolog.Level) *logs {
	l := &logs{all: all, level: level, console: console, files: map[string]*lumberjack.Logger{}}
	for _, part := range []string{logProcessing, logRouter, logScheduler} {
		l.files[part] = &lumberjack.Logger{
			Filename: filepath.Join(dir, part, part+".log"), MaxSize: logMegabytes, MaxBackups: logBackups, MaxAge: logDays,
		}
	}
	return l
}

// part returns the logger of one part.
func (l *logs) part(name string) zerolog.Logger {
	w := zerolog.MultiLevelWriter(atLeast{l.all, l.console}, l.files[name])
	return zerolog.New(w).Level(l.level).With().Timestamp().Logger()
}

// stage returns the logger of a stage.
func (l *logs) stage(s contract.Stage) zerolog.Logger {
	switch s {
	case contract.Ingest, contract.Validate, contract.Enrich, contract.Standardize:
		return l.part(logProcessing)
	case contract.Route, contract.Scrape, contract.Aggregate:
		return l.part(logRouter)
	case contract.Archive:
	}
	return l.part(logScheduler)
}

func (l *logs) close() error {
	var errs []error
	for _, f := range l.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// atLeast passes on the lines of a level and above.
type atLeast struct {
	io.Writer
	level zerolog.Level
}

// WriteLevel implements zerolog.LevelWriter.
func (w atLeast) WriteLevel(l zerolog.Level, p []byte) (int, error) {
	if l < w.level {
		return len(p), nil
	}
	return w.Write(p)
}
