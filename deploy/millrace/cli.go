package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"

	"github.com/jobspy/millrace/shared/config"
)

// The exit codes.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2 // the command line or the settings are wrong
	exitNotFound = 3
)

// exitError is an error that decides the exit code.
type exitError struct {
	code int
	err  error // nil where everything has been said already
}

func (e *exitError) Error() string {
	if e.err == nil {
		return "failed"
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usagef says that the command line or a setting is wrong.
func usagef(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// notFoundf says that what was asked for does not exist.
func notFoundf(format string, args ...any) error {
	return &exitError{code: exitNotFound, err: fmt.Errorf(format, args...)}
}

// errSaid ends a command with code 1 where all that went wrong has been printed.
var errSaid = &exitError{code: exitFailed}

// streams are the standard streams of the process.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// cli is the command line.
type cli struct {
	Version kong.VersionFlag `help:"Print the version."`

	Up          upCmd          `cmd:"" help:"Run broker, object store and all stages in one process."`
	Provision   provisionCmd   `cmd:"" help:"Make streams, consumers and buckets, or show what differs."`
	Publish     publishCmd     `cmd:"" help:"Publish documents from files, folders or standard input."`
	Watch       watchCmd       `cmd:"" help:"Publish each new *.json of a folder and follow it to its end."`
	Status      statusCmd      `cmd:"" help:"Show the queues, or where one document is."`
	Dlq         dlqCmd         `cmd:"" help:"Look at the dead letters, send them through again, remove them."`
	Replay      replayCmd      `cmd:"" help:"Refill the line from the bucket of raw documents or from the archive."`
	Config      configCmd      `cmd:"" help:"Show or change the policy that is taken up without a restart."`
	Store       storeCmd       `cmd:"" help:"Find out what the object store can do."`
	Backup      backupCmd      `cmd:"" help:"Copy what the broker holds into a folder."`
	Restore     restoreCmd     `cmd:"" help:"Put a backup of the broker back."`
	Archive     archiveCmd     `cmd:"" help:"Bring the archive up to date, look at it, prove it, restore from it, remove what is over its time."`
	Doctor      doctorCmd      `cmd:"" help:"Prove the settings that keep data."`
	Bench       benchCmd       `cmd:"" help:"Measure the line's rate and latency beside the limits."`
	Healthcheck healthcheckCmd `cmd:"" help:"Ask a process whether it is ready; for containers."`
}

const description = `Millrace turns the JSON of language models into stored, validated and enriched documents.

Settings come from the environment (NATS_URL, S3_ENDPOINT, S3_ACCESS_KEY, S3_SECRET_KEY and others). ` +
	`Beside a running "millrace up" nothing needs to be set: what is missing is read from .millrace/credentials.env.

Exit codes: 0 ok, 1 failed, 2 wrong usage or settings, 3 not found.`

// run is the whole program but for the process around it: it returns the exit code.
func run(ctx context.Context, args []string, s streams, environ []string) int {
	g := &globals{stdin: s.in, stdout: s.out, stderr: s.err}
	var err error
	if g.env, err = config.Environ(environ); err != nil {
		return report(s.err, &exitError{code: exitUsage, err: err})
	}
	left, exited := exitOK, false
	parser, err := kong.New(&cli{},
		kong.Name("millrace"),
		kong.Description(description),
		kong.Vars{"version": version(), "phases": "broker,store,driver,line,latency"},
		kong.Writers(s.out, s.err),
		kong.FlagNamer(flagName),
		kong.Exit(func(code int) { left, exited = code, true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Bind(g),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil {
		return report(s.err, fmt.Errorf("build the command line: %w", err))
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	switch {
	case exited: // --help and --version have been answered
		return left
	case err != nil:
		return report(s.err, usageError(err))
	}
	err = parsed.Run()
	return report(s.err, errors.Join(err, g.close()))
}

// flagName makes a flag of a field's name: a dash before each word, S3 and HTTP as they are.
func flagName(field string) string {
	var b strings.Builder
	lower := false
	for _, r := range field {
		if lower && unicode.IsUpper(r) {
			b.WriteByte('-')
		}
		lower = unicode.IsLower(r)
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// usageError turns what the parser says into an error of ours that names the help to read.
func usageError(err error) error {
	if _, ok := errors.AsType[*exitError](err); ok {
		return err
	}
	help := "millrace --help"
	if p, ok := errors.AsType[*kong.ParseError](err); ok && p.Context != nil && p.Context.Command() != "" {
		command, _, _ := strings.Cut(p.Context.Command(), " <")
		help = "millrace " + command + " --help"
	}
	return usagef("%w (see %s)", err, help)
}

// report prints what went wrong and returns the exit code.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	e, ok := errors.AsType[*exitError](err)
	if !ok {
		sayf(w, "millrace: %v\n", err)
		return exitFailed
	}
	if e.err != nil {
		sayf(w, "millrace: %v\n", err)
	}
	return e.code
}

// version says from which commit the program was built, and with which Go.
func version() string {
	v, commit := "devel", ""
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		v = info.Main.Version
	}
	if c := commitOf(); c != "" {
		commit = " " + c
	}
	return "millrace " + v + commit + " " + runtime.Version()
}

// commitOf returns the commit that the program was built from, empty where that is not
// known; "+" marks one with changes that are in no commit.
func commitOf() string {
	commit, changed := "", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				commit = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				changed = "+"
			}
		}
	}
	if commit == "" {
		return ""
	}
	return commit + changed
}
