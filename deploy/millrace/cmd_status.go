package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/jobspy/millrace/deploy/millrace/operate"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// statusCmd shows the queues or one document.
type statusCmd struct {
	Conn   connection `embed:""`
	FileID string     `arg:"" optional:"" help:"Show this document instead of the queues."`
	JSON   bool       `help:"Print one JSON object."`
}

// Help is shown by millrace status --help.
func (*statusCmd) Help() string {
	return `Without a file_id: what waits (pending) and is being worked on (processing) in each stage and lane, and how many documents have completed and failed. With one: where the document is, or how it ended; of a completed one also which of its objects are gone and where the archive holds it. The exit code is 3 where it is unknown.

Examples:
  millrace status
  millrace status 0197c0de-7a30-7c6e-b2e0-5d7c2f0a9b11 --json`
}

// Run implements the command.
func (c *statusCmd) Run(ctx context.Context, g *globals) error {
	b, err := g.bus(ctx)
	if err != nil {
		return err
	}
	if c.FileID == "" {
		o, err := operate.ReadOverview(ctx, b, time.Now())
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(g.stdout, o)
		}
		return printOverview(g.stdout, o)
	}
	if !doc.ValidID(c.FileID) {
		return notFoundf("%q is no file_id: those are of the form [A-Za-z0-9_-]{1,64}", c.FileID)
	}
	l, err := g.ledger(ctx)
	if err != nil {
		return err
	}
	d, err := operate.FindDocument(ctx, operate.Sources{
		Bus: b, Ledger: l, Store: func(ctx context.Context) (store.Store, error) { return g.store(ctx) },
	}, c.FileID)
	if errors.Is(err, operate.ErrUnknown) {
		return notFoundf("%w", err)
	}
	if err != nil {
		return err
	}
	kept, err := g.policy(ctx)
	if err != nil {
		return err
	}
	d.Objects = kept.Buckets.Refs(d.Objects)
	if c.JSON {
		return printJSON(g.stdout, d)
	}
	return printDocument(g.stdout, &d)
}

func printOverview(w io.Writer, o operate.Overview) error {
	t := newTable(w, "STAGE", "LANE", "PENDING", "PROCESSING", "REDELIVERED", "OLDEST")
	for _, s := range o.Stages {
		oldest := "-"
		if s.Queued > 0 {
			oldest = age(time.Duration(s.OldestMS) * time.Millisecond)
		}
		stage := string(s.Stage)
		for _, l := range s.Lanes {
			t.row(stage, l.Lane, strconv.FormatUint(l.Pending, 10), strconv.Itoa(l.Processing), strconv.Itoa(l.Redelivered), oldest)
			stage, oldest = "", ""
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nscheduled %d (retries, deadlines, timers), completed %d, failed %d\n", o.Retrying, o.Completed, o.Failed)
	return err
}

func printDocument(w io.Writer, d *operate.Document) error {
	t := newTable(w, "file_id", d.FileID)
	t.row("state", string(d.State))
	field := func(name, value string) {
		if value != "" {
			t.row(name, value)
		}
	}
	field("stage", string(d.Stage))
	field("reason", string(d.Reason))
	field("error", d.Error)
	field("outcome", string(d.Outcome))
	field("name", d.Name)
	field("task", d.Task)
	field("provider", d.Provider)
	if !d.CreatedAt.IsZero() {
		t.row("created", d.CreatedAt.Format(time.RFC3339))
	}
	if !d.At.IsZero() {
		t.row("since", d.At.Format(time.RFC3339))
	}
	t.row("replays", strconv.Itoa(d.Replays))
	if d.Attempt > 0 {
		t.row("attempt", strconv.Itoa(d.Attempt))
	}
	if d.DeadLetter > 0 {
		t.row("dead letter", fmt.Sprintf("%d (millrace dlq show %d)", d.DeadLetter, d.DeadLetter))
	}
	if d.Result != nil {
		result := d.Result.String()
		if slices.Contains(d.Gone, *d.Result) {
			result += " (gone)"
		}
		t.row("result", result)
	}
	for _, o := range d.Objects {
		name := "object"
		if slices.Contains(d.Gone, o) {
			name = "gone"
		}
		t.row(name, o.String())
	}
	if a := d.Archived; a != nil {
		t.row("archived", fmt.Sprintf("%s, in %s/%s", a.Volume, a.Bucket, a.Part))
	}
	field("store", d.StoreError)
	for _, s := range d.Sources {
		t.row("source", fmt.Sprintf("%s  %s  %d jobs  %s", s.Source, s.Status, s.Jobs, s.Error))
	}
	for _, s := range d.Timeline {
		t.row("timeline", fmt.Sprintf("%s  %s  %d ms", s.At.Format(time.RFC3339Nano), s.Stage, s.MS))
	}
	return t.flush()
}
