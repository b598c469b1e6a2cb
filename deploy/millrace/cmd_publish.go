package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/jobspy/millrace/deploy/millrace/operate"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

// publishCmd publishes documents.
type publishCmd struct {
	Conn     connection `embed:""`
	Paths    []string   `arg:"" name:"path" help:"Files, folders (each *.json, each line of *.ndjson and *.jsonl), or - for standard input (one document, or one in each line)."`
	Task     string     `help:"Task type (intent_analysis, job_extraction, data_enrichment, quality_validation); else that of the file name or of the metadata." placeholder:"TASK"`
	Provider string     `help:"Provider; else that of the file name or of the metadata." placeholder:"NAME"`
	Lane     string     `help:"Priority: high, normal or low; else the rules decide." placeholder:"LANE"`
	Session  string     `help:"Session, where the metadata has none." placeholder:"ID"`
	FileID   string     `help:"file_id of the document, where the metadata has none; for one file." placeholder:"ID"`
	JSON     bool       `help:"Print one JSON object for each document."`
}

// Help is shown by millrace publish --help.
func (*publishCmd) Help() string {
	return `Prints the file_id of each document that the broker has. What could not be published is named on standard error; the others are published all the same, and the exit code is 1.

Examples:
  millrace publish 20250127_143052_intent_analysis_openai_abc123.json
  millrace publish --task job_extraction --provider openai answers/
  cat answers.ndjson | millrace publish --task intent_analysis --provider google -`
}

// Run implements the command.
func (c *publishCmd) Run(ctx context.Context, g *globals) error {
	a := operate.Address{
		Task: c.Task, Provider: c.Provider, Lane: contract.Lane(c.Lane), Session: c.Session, FileID: c.FileID,
	}
	if err := a.Validate(); err != nil {
		return usagef("%w", err)
	}
	if c.FileID != "" && len(c.Paths) > 1 {
		return usagef("--file-id is for one document, %d paths are given", len(c.Paths))
	}
	b, err := g.bus(ctx)
	if err != nil {
		return err
	}
	p := operate.Publisher{Bus: b, Store: func(ctx context.Context) (store.Store, error) { return g.store(ctx) }}
	inputs := operate.Inputs(c.Paths, g.stdin)
	if c.FileID != "" {
		// A folder or a file of lines may hold more than one: look before the first is sent.
		inputs, err = operate.Single(inputs)
		if err != nil {
			return usagef("--file-id is for one document: %w", err)
		}
	}
	r := &publishReport{out: g.stdout, err: g.stderr, json: c.JSON, progress: isTerminal(g.stderr)}
	if err := p.PublishAll(ctx, inputs, a, r.add); err != nil {
		return err
	}
	return r.end()
}

// progressEvery is how often the progress is drawn.
const progressEvery = 100 * time.Millisecond

// publishReport prints what becomes of each document.
type publishReport struct {
	out, err       io.Writer
	json, progress bool

	done, failed int
	drawn        time.Time
	write        error // the first error of writing to out
}

func (r *publishReport) add(one operate.Result) {
	r.erase()
	switch {
	case one.Err != nil:
		r.failed++
		sayf(r.err, "millrace: %s: %v\n", printable(one.Where), one.Err)
	case r.json:
		r.done++
		r.keep(printLine(r.out, one.Published))
	default:
		r.done++
		_, err := fmt.Fprintln(r.out, one.FileID)
		r.keep(err)
	}
	if one.Err == nil && !r.json {
		r.remark(one)
	}
	if r.progress && time.Since(r.drawn) >= progressEvery {
		sayf(r.err, "\r%d published, %d failed", r.done, r.failed)
		r.drawn = time.Now()
	}
}

func (r *publishReport) remark(one operate.Result) {
	if one.Duplicate {
		sayf(r.err, "%s: duplicate: the broker had this document already\n", printable(one.Where))
	}
	if one.Warning != "" {
		sayf(r.err, "%s: warning: %s\n", printable(one.Where), printable(one.Warning))
	}
}

func (r *publishReport) keep(err error) {
	if r.write == nil {
		r.write = err
	}
}

// erase removes the progress from the terminal.
func (r *publishReport) erase() {
	if r.progress && !r.drawn.IsZero() {
		sayf(r.err, "\r\x1b[K")
	}
}

func (r *publishReport) end() error {
	r.erase()
	switch {
	case r.write != nil:
		return fmt.Errorf("print the file_ids: %w", r.write)
	case r.failed > 0 && r.done > 0:
		return fmt.Errorf("%d of %d documents were not published", r.failed, r.failed+r.done)
	case r.failed > 0:
		return errSaid
	}
	return nil
}
