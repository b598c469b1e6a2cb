package main

import (
	"context"
	"errors"
	"strconv"

	"github.com/jobspy/millrace/deploy/millrace/operate"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
)

// archiveVerifyCmd checks volumes.
type archiveVerifyCmd struct {
	Conn  connection `embed:""`
	Date  string     `help:"Only this day." placeholder:"2025-01-27" xor:"period"`
	Week  string     `help:"Only this ISO week." placeholder:"2025-W05" xor:"period"`
	Month string     `help:"Only this month." placeholder:"2025-01" xor:"period"`
	JSON  bool       `help:"Print one JSON array."`
}

// Help is shown by millrace archive verify --help.
func (*archiveVerifyCmd) Help() string {
	return `Reads parts and indexes whole and holds them against their checksums, each document against its record, days against the records that LLM_COMPLETED still has, weeks and months against the days. It changes nothing. COMPARED is how many records, or documents of days, were held against the volume. The exit code is 1 where anything is wrong, and 3 where there is no such volume.

Examples:
  millrace archive verify
  millrace archive verify --week 2025-W05 --json`
}

// Run implements the command.
func (c *archiveVerifyCmd) Run(ctx context.Context, g *globals) error {
	named, err := c.period()
	if err != nil {
		return err
	}
	b, err := g.bus(ctx)
	if err != nil {
		return err
	}
	states, err := b.KV(ctx, contract.KVJoin)
	if err != nil {
		return err
	}
	s, err := g.store(ctx)
	if err != nil {
		return err
	}
	v := volume.Verifier{Store: s, Records: b, States: states}
	if named == nil {
		if named, err = v.Periods(ctx); err != nil {
			return err
		}
	}
	reports := []volume.Report{}
	for _, p := range named {
		r, err := v.Verify(ctx, p)
		if errors.Is(err, store.ErrNotFound) {
			return notFoundf("there is no volume %s", p)
		}
		if err != nil {
			return err
		}
		reports = append(reports, r)
	}
	return c.print(g, reports)
}

// period returns the one that is named, or nil.
func (c *archiveVerifyCmd) period() ([]volume.Period, error) {
	for kind, name := range map[volume.Kind]string{volume.Daily: c.Date, volume.Weekly: c.Week, volume.Monthly: c.Month} {
		if name == "" {
			continue
		}
		p, err := volume.Parse(kind, name)
		if err != nil {
			return nil, usagef("%w", err)
		}
		return []volume.Period{p}, nil
	}
	return nil, nil
}

func (c *archiveVerifyCmd) print(g *globals, reports []volume.Report) error {
	wrong := false
	t := newTable(g.stdout, "VOLUME", "PARTS", "DOCUMENTS", "BYTES", "COMPARED", "VERDICT")
	for i := range reports {
		r := &reports[i]
		verdict := "ok"
		if !r.Sound() {
			wrong = true
			verdict = strconv.Itoa(len(r.Problems)+r.More) + " problems"
		}
		t.row(string(r.Kind)+"/"+r.Period, strconv.Itoa(r.Parts), strconv.Itoa(r.Documents), strconv.FormatInt(r.Bytes, 10),
			strconv.Itoa(r.Compared), verdict)
	}
	var err error
	switch {
	case c.JSON:
		err = printJSON(g.stdout, reports)
	case len(reports) == 0:
		sayf(g.stderr, "the archive is empty\n")
	default:
		err = t.flush()
	}
	if err != nil {
		return err
	}
	for i := range reports {
		for _, p := range reports[i].Problems {
			sayf(g.stderr, "millrace: %s\n", printable(p.String()))
		}
		if n := reports[i].More; n > 0 {
			sayf(g.stderr, "millrace: %s/%s: %d more\n", reports[i].Kind, reports[i].Period, n)
		}
	}
	if wrong {
		return errSaid
	}
	return nil
}

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
	return `Writes every object that the documents' records name back with its bytes, content type and metadata. What is there as it is in the archive stays; what is there and is another stays too, and is told: then the exit code is 1. A day whose own volume is gone is restored from its week or month.

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
	s, err := g.store(ctx)
	if err != nil {
		return err
	}
	r := volume.Restore{Store: s, FileID: c.ID, DryRun: c.DryRun, Conflict: func(r store.Ref) {
		sayf(g.stderr, "millrace: %s is another than in the archive and was left as it is\n", printable(r.String()))
	}}
	if isTerminal(g.stderr) {
		r.Progress = func(d volume.Restored) { sayf(g.stderr, "\r%d documents, %d objects written", d.Documents, d.Written) }
	}
	from, done, err := operate.RestoreDay(ctx, r, day)
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
