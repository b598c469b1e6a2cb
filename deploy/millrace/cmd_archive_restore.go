package main

import (
	"context"
	"errors"

	"github.com/jobspy/millrace/deploy/millrace/operate"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
)

// archiveRestoreCmd restores a day.
type archiveRestoreCmd struct {
	Conn   connection `embed:""`
	Date   string     `help:"The day on which the documents completed, in UTC." placeholder:"2025-01-27" required:""`
	ID     string     `help:"Only the document with this file_id." placeholder:"FILE_ID"`
	DryRun bool       `help:"Show what would be written and change nothing."`
	JSON   bool       `help:"Print one JSON object."`
}

// Help is shown by millrace archive restore --help.
func (*archiveRestoreCmd) Help() string {
	return `Writes every object that the documents' records name back with its bytes, content type and metadata. What is there as it is in the archive stays; what is there and is another stays too, and is told: then the exit code is 1. A day whose own volume is gone is restored from its week or month. What is written stays for the time that the storage policy gives it, from now on.

Examples:
  millrace archive restore --date 2025-01-27 --dry-run
  millrace archive restore --date 2025-01-27 --id 0197c0de-7a30-7c6e-b2e0-5d7c2f0a9b11`
}

// restoredDay is what restore prints as JSON.
type restoredDay struct {
	Volume string `json:"volume"`
	DryRun bool   `json:"dry_run"`
	volume.Restored
}

// Run implements the command.
func (c *archiveRestoreCmd) Run(ctx context.Context, g *globals) error {
	day, err := volume.Parse(volume.Daily, c.Date)
	if err != nil {
		return usagef("--date: %w", err)
	}
	r := operate.DayRestore{Waiting: g.waiting}
	if r.Deps, err = g.archive(ctx); err != nil {
		return err
	}
	r.FileID, r.DryRun = c.ID, c.DryRun
	r.Conflict = func(r store.Ref) {
		sayf(g.stderr, "millrace: %s is another than in the archive and was left as it is\n", printable(r.String()))
	}
	if isTerminal(g.stderr) {
		r.Progress = func(d volume.Restored) { sayf(g.stderr, "\r%d documents, %d objects written", d.Documents, d.Written) }
	}
	from, done, err := r.Run(ctx, day)
	if r.Progress != nil {
		sayf(g.stderr, "\r\x1b[K")
	}
	if errors.Is(err, store.ErrNotFound) {
		return notFoundf("%w", err)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(g.stdout, restoredDay{Volume: from.String(), DryRun: c.DryRun, Restored: done})
	} else {
		verb := "written"
		if c.DryRun {
			verb = "would be written"
		}
		sayf(g.stdout, "%s: %d documents, %d objects %s (%d bytes), %d were there, %d conflicts, %d were gone when they were archived\n",
			from, done.Documents, done.Written, verb, done.Bytes, done.Same, done.Conflicts, done.Absent)
		if done.Inexact > 0 {
			sayf(g.stderr, "%d documents were archived by an older version: their objects have no metadata\n", done.Inexact)
		}
	}
	if err == nil && done.Conflicts > 0 {
		err = errSaid
	}
	return err
}
