package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/jobspy/millrace/deploy/millrace/bench"
)

// benchCmd measures the line.
type benchCmd struct {
	Nats string `help:"Measure the line that runs at this broker, instead of one of its own." placeholder:"URL"`
	S3   string `help:"Object store, instead of an embedded one (with --nats: instead of S3_ENDPOINT)." placeholder:"HOST:PORT"`
	Data string `help:"Folder that keeps the line of its own; else a temporary one. With --nats: folder of the \"millrace up\" that runs there." placeholder:"DIR"`
	PIDs []int  `help:"Processes of a running line whose CPU and memory are told." name:"pids" placeholder:"PID"`

	Phases    []bench.Phase `help:"What to measure: ${phases}." default:"${phases}"`
	Documents int           `help:"How many documents go through the line for its rate." default:"5000"`
	Size      int           `help:"Size of a document in bytes." default:"2048"`
	Seed      uint64        `help:"Seed of the documents." default:"1"`
	Rates     []float64     `help:"Rates of the latency, in documents a second." default:"10,50"`
	For       time.Duration `help:"How long each rate is kept up." default:"30s"`
	BoundFor  time.Duration `help:"How long each limit is measured, before and after." default:"5s"`
	Wait      time.Duration `help:"How long to wait for the last document after the last publish." default:"10m"`
	Check     bench.Extent  `help:"How many documents are read back: all, sample, none." enum:"all,sample,none" default:"sample"`

	JSON      bool    `help:"Print one JSON object."`
	History   string  `help:"File that keeps one line for each run, with which this one is compared." type:"path" placeholder:"FILE"`
	Commit    string  `help:"Commit that the report names, where the program was built without its own." placeholder:"COMMIT"`
	FailBelow float64 `help:"With --history: exit with 1 where the rate is more than so many percent below the median of the last runs." placeholder:"PERCENT"`
}

// Help is shown by millrace bench --help.
func (*benchCmd) Help() string {
	return `Prints what the line does beside what broker and object store can do by themselves and what a bare driver reaches that does nothing but the line's durable writes. The limits are measured before the line and after it; on a busy machine only the ratios mean something.

Without --nats it starts broker and stages of its own in this process, and with neither --nats nor --s3 the object store too. What it makes it removes, also after Ctrl-C; only documents that went through a running line stay there, like any others. Give --s3 a store whose buckets nobody else uses.

Examples:
  millrace bench
  millrace bench --s3 127.0.0.1:9000
  millrace bench --nats nats://127.0.0.1:4222 --s3 127.0.0.1:9000 --pids 17,18,19
  millrace bench --phases line --history bench.jsonl --fail-below 15`
}

// Run implements the command.
func (c *benchCmd) Run(ctx context.Context, g *globals) error {
	config := bench.Config{
		Phases: c.Phases, Documents: c.Documents, Size: c.Size, Seed: c.Seed, Rates: c.Rates, For: c.For,
		BoundFor: c.BoundFor, Wait: c.Wait, Check: c.Check, Remove: c.Nats == "" && c.S3 != "",
	}
	if err := config.Validate(); err != nil {
		return usagef("%w", err)
	}
	if c.FailBelow != 0 && c.History == "" {
		return usagef("--fail-below compares with earlier runs, so it needs --history")
	}
	var err error
	if c.History != "" { // the embedded store changes the working directory
		if c.History, err = filepath.Abs(c.History); err != nil {
			return usagef("find the history: %w", err)
		}
	}
	earlier, err := bench.ReadHistory(c.History)
	if err != nil {
		return err
	}
	var report *bench.Report
	err = c.target(ctx, g, func(ctx context.Context, t bench.Target) (err error) {
		report, err = bench.Run(ctx, config, t, func(what string) { sayf(g.stderr, "%s ...\n", what) })
		return err
	})
	if err == nil && report == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	if report.Commit = commitOf(); report.Commit == "" {
		report.Commit = c.Commit
	}
	return c.tell(g, report, earlier)
}

// tell prints the report and adds it to the history.
func (c *benchCmd) tell(g *globals, r *bench.Report, earlier []bench.Report) error {
	changes := r.Compare(earlier)
	if c.JSON {
		if err := printJSON(g.stdout, struct {
			*bench.Report
			Changes []bench.Change `json:"changes,omitempty"`
		}{r, changes}); err != nil {
			return err
		}
	} else if err := printBench(g.stdout, r, changes); err != nil {
		return err
	}
	problems := r.Problems()
	if c.History != "" && len(problems) == 0 { // else its figures are worth nothing
		if err := r.Append(c.History); err != nil {
			return err
		}
	}
	var err error
	if c.FailBelow > 0 && bench.TooSlow(changes, c.FailBelow) {
		err = fmt.Errorf("the line is more than %g %% slower than the runs before", c.FailBelow)
	}
	if len(problems) > 0 {
		err = errors.Join(err, errors.New("the line did not do what it must, so its figures mean nothing"))
	}
	return err
}

func printBench(w io.Writer, r *bench.Report, changes []bench.Change) error {
	if err := r.Write(w); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	for _, c := range changes {
		sayf(w, "%s\n", c)
	}
	return nil
}
