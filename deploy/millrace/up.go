package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"github.com/jobspy/millrace/deploy/millrace/up"
	"github.com/jobspy/millrace/shared/stage"
)

// upCmd runs everything in one process.
type upCmd struct {
	Data   string `help:"Folder that keeps everything: nats/, buckets/, logs/." default:".millrace" type:"path"`
	Nats   string `help:"Address on which the broker listens." default:"127.0.0.1:4222"`
	S3     string `help:"Address on which the object store listens." default:"127.0.0.1:9000"`
	HTTP   string `help:"Address of health and metrics." default:"127.0.0.1:8080" name:"http"`
	Sample bool   `help:"Feed the sample documents and show where each one is."`
	Exit   bool   `help:"With --sample: end when all samples have ended."`
}

// Help is shown by millrace up --help.
func (*upCmd) Help() string {
	return "Example: millrace up --data ./data --sample\n\nCtrl-C stops it; what was accepted is kept and goes on at the next start."
}

// Run implements the command.
func (c *upCmd) Run(ctx context.Context, g *globals) error {
	if c.Exit && !c.Sample {
		return usagef("--exit ends the line when the samples have ended, so it needs --sample")
	}
	level, console, err := logLevels(g.env["LOG_LEVEL"], c.Sample)
	if err != nil {
		return err
	}
	defer stayLean()()
	began := time.Now()
	err = up.Run(ctx, up.Config{
		Dir: c.Data, NATSAddr: c.Nats, S3Addr: c.S3, HTTPAddr: c.HTTP, Vars: g.env,
		Logs: g.stderr, Level: level, Console: console,
	}, func(ctx context.Context, i *up.Instance) error {
		fmt.Fprintf(g.stdout, "millrace is up after %s: NATS %s, S3 %s, HTTP %s, data %s\n",
			time.Since(began).Round(time.Millisecond), i.NATSAddr, i.S3Addr, i.HTTPAddr, i.Dir)
		if !c.Sample {
			return nil
		}
		v := &view{out: g.stdout, live: isTerminal(g.stdout)}
		if err := up.Feed(ctx, i, v.show); err != nil {
			return err
		}
		fmt.Fprint(g.stdout, nextSteps(i))
		if c.Exit {
			return up.ErrEnough
		}
		fmt.Fprintln(g.stdout, "\nThe line stays up; Ctrl-C stops it.")
		return nil
	})
	if _, wrong := errors.AsType[*stage.SettingsError](err); wrong {
		return &exitError{code: exitUsage, err: err}
	}
	return err
}

// logLevels returns what the log files keep and what the console shows. With the live view
// the console shows warnings only, unless a level is asked for.
func logLevels(asked string, sample bool) (level, console zerolog.Level, err error) {
	if asked != "" {
		level, err = zerolog.ParseLevel(asked)
		if err != nil {
			return level, level, &exitError{code: exitUsage, err: fmt.Errorf("LOG_LEVEL is %q: %w", asked, err)}
		}
		return level, level, nil
	}
	if sample {
		return zerolog.InfoLevel, zerolog.WarnLevel, nil
	}
	return zerolog.InfoLevel, zerolog.InfoLevel, nil
}

// view shows where the samples are: on a terminal a table that is drawn over itself, else a
// line for each change.
type view struct {
	out  io.Writer
	live bool
	last map[string]string
	rows int
}

func (v *view) show(all []up.Sample) {
	if v.live && v.rows > 0 {
		fmt.Fprintf(v.out, "\x1b[%dA", v.rows)
	}
	if v.last == nil {
		v.last = map[string]string{}
	}
	for _, s := range all {
		text := s.Line()
		switch {
		case v.live:
			fmt.Fprintf(v.out, "\x1b[2K%s\n", text)
		case v.last[s.File] != text:
			fmt.Fprintln(v.out, text)
		}
		v.last[s.File] = text
	}
	v.rows = len(all)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// nextSteps names three commands that show what happened, with tools that are not ours first.
func nextSteps(i *up.Instance) string {
	exe, err := os.Executable()
	if err != nil {
		exe = "millrace"
	}
	if wd := os.Getenv("PWD"); wd != "" {
		if rel, err := filepath.Rel(wd, exe); err == nil {
			exe = rel
		}
	}
	return fmt.Sprintf(`
Where to look next:
  nats --server nats://%s stream view LLM_DLQ
  . %s/credentials.env; AWS_ACCESS_KEY_ID=$S3_ACCESS_KEY AWS_SECRET_ACCESS_KEY=$S3_SECRET_KEY aws --endpoint-url http://%s s3 ls --recursive s3://llm-raw/
  %s status
`, i.NATSAddr, i.Dir, i.S3Addr, exe)
}
