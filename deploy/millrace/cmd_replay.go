package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jobspy/millrace/deploy/millrace/operate"
	"github.com/jobspy/millrace/shared/config"
	"github.com/jobspy/millrace/shared/letters"
	"github.com/jobspy/millrace/shared/stage"
)

// replayCmd refills the line from what is stored.
type replayCmd struct {
	Conn     connection `embed:""`
	From     string     `help:"Where the documents are read: raw, the bucket llm-raw, or archive, the volumes of days." enum:"raw,archive" required:"" placeholder:"raw"`
	Date     []string   `help:"Only those created on this date (UTC), from the archive those completed on it; may be given several times." placeholder:"DATE"`
	Since    string     `help:"Only those of this date or later." placeholder:"DATE"`
	Until    string     `help:"Only those of this date or earlier." placeholder:"DATE"`
	Prefix   string     `help:"Only objects whose key begins so, such as by_provider/openai/." placeholder:"KEY"`
	Task     string     `help:"Only those of this task type." placeholder:"TASK"`
	Provider string     `help:"Only those of this provider." placeholder:"NAME"`
	ID       string     `help:"Only the one of this file_id." placeholder:"FILE_ID"`
	Dead     bool       `help:"Those too that have a dead letter."`
	DryRun   bool       `help:"Show what would be done and change nothing."`
	Rate     string     `help:"Send at most so many: 10/s, 90/m." placeholder:"N/s"`
	Yes      bool       `help:"Do not ask." short:"y"`
	JSON     bool       `help:"Print one JSON object for each."`
}

// fromArchive is the source that is not raw.
const fromArchive = "archive"

// what names what is read.
func (c *replayCmd) what() string {
	if c.From == fromArchive {
		return "archived documents"
	}
	return "raw objects"
}

// Help is shown by millrace replay --help.
func (*replayCmd) Help() string {
	return `For a broker that lost what it had: each raw object is looked at, and its document keeps its file_id, name, date and lane. One line tells what became of each:
  sent       through the line: the broker knew nothing of it
  completed  it had been done and is not done again; its record in LLM_COMPLETED and its ledger entry are made again where they are gone
  known      it is on its way or has ended; nothing was done
  dead       it has a dead letter, in LLM_DLQ or in the bucket llm-dlq; --dead sends it, and unless something was mended the same dead letter comes again (for those in LLM_DLQ "millrace dlq replay" is better: it can patch)
  damaged    its bytes or metadata are not what was stored; not sent
  failed     as the error says
From the archive come documents that have completed: each that the broker does not know gets its record, as it was, and its ledger entry back. Its objects come back by "millrace archive restore".
The exit code is 1 where something is damaged or failed. Running it twice is harmless. A full queue is waited for.

Examples:
  millrace replay --from raw --date 2025-01-27 --dry-run
  millrace replay --from archive --date 2025-01-27 --yes
  millrace replay --from raw --since 2025-01-20 --provider openai --rate 100/s --yes`
}

// Run implements the command.
func (c *replayCmd) Run(ctx context.Context, g *globals) error {
	s, r, err := c.parse()
	if err != nil {
		return err
	}
	settings, err := config.Parse[stage.Config](g.env)
	if err != nil {
		return usagef("the settings are wrong: %w", err)
	}
	objects, err := g.store(ctx)
	if err != nil {
		return err
	}
	if r.Bus, err = g.bus(ctx); err != nil {
		return err
	}
	if r.Ledger, err = g.ledgerFor(ctx, settings.LedgerTTL); err != nil {
		return err
	}
	r.Store = objects
	archive := &operate.Archive{Store: objects}
	r.Archive = archive
	var from operate.Source = &operate.RawObjects{Store: objects, Views: settings.Views, Selection: s}
	if c.From == fromArchive {
		from = &operate.ArchivedDocuments{Archive: archive, Days: s}
		s.Dates, s.Since, s.Until = nil, "", "" // they are about when documents completed
	}
	if !c.DryRun && !c.Yes {
		n := 0
		for _, err := range from.Documents(ctx) {
			if err != nil {
				return err
			}
			n++
		}
		if err := g.confirm(fmt.Sprintf("look at %d %s and refill the line from them", n, c.what()), n, false); err != nil {
			return err
		}
	}
	report := &refillReport{out: g.stdout, err: g.stderr, json: c.JSON, progress: isTerminal(g.stderr), n: map[operate.Fate]int{}}
	r.Full = report.full
	err = r.Run(ctx, from, s, report.add)
	return c.end(report, err)
}

func (c *replayCmd) parse() (operate.Selection, *operate.Refill, error) {
	s := operate.Selection{
		Dates: c.Date, Since: c.Since, Until: c.Until, Prefix: c.Prefix, Task: c.Task, Provider: c.Provider, FileID: c.ID,
	}
	r := &operate.Refill{Dead: c.Dead, DryRun: c.DryRun}
	err := s.Validate()
	if err == nil && c.From == fromArchive && c.Prefix != "" {
		err = errors.New("--prefix is about raw objects, and they are not read")
	}
	if err == nil && c.Rate != "" {
		r.Rate, err = letters.ParseRate(c.Rate)
	}
	if err != nil {
		return s, r, usagef("%w", err)
	}
	return s, r, nil
}

// end prints the counts and decides the exit code.
func (c *replayCmd) end(r *refillReport, err error) error {
	r.erase()
	if c.DryRun {
		sayf(r.err, "dry run: ")
	}
	sayf(r.err, "%s\n", r.counts())
	switch {
	case err != nil:
		return err
	case r.write != nil:
		return fmt.Errorf("print what was done: %w", r.write)
	case r.n[operate.RefillDamaged]+r.n[operate.RefillFailed] > 0:
		return errSaid
	case c.ID != "" && r.counted == 0:
		return notFoundf("among the %s that are selected none has file_id %s", c.what(), c.ID)
	}
	return nil
}

// refillReport prints what becomes of each document.
type refillReport struct {
	out, err       io.Writer
	json, progress bool

	n       map[operate.Fate]int
	counted int
	drawn   time.Time
	write   error // the first error of writing to out
}

func (r *refillReport) add(one operate.Refilled) {
	r.erase()
	r.n[one.Fate]++
	r.counted++
	if one.Error != "" {
		sayf(r.err, "millrace: %s: %s\n", printable(one.Object), printable(one.Error))
	}
	var err error
	if r.json {
		err = printLine(r.out, one)
	} else {
		_, err = fmt.Fprintf(r.out, "%s\t%s\t%s\n", one.Fate, dash(one.FileID), printable(one.Object))
	}
	if r.write == nil {
		r.write = err
	}
	if r.progress && time.Since(r.drawn) >= progressEvery {
		sayf(r.err, "\r%s", r.counts())
		r.drawn = time.Now()
	}
}

// full says that documents wait for a queue.
func (r *refillReport) full(err error) {
	sayf(r.err, "millrace: %v: the documents wait until there is room\n", err)
}

func (r *refillReport) counts() string {
	var parts []string
	for _, f := range operate.Fates() {
		parts = append(parts, fmt.Sprintf("%d %s", r.n[f], f))
	}
	return strings.Join(parts, ", ")
}

// erase removes the progress from the terminal.
func (r *refillReport) erase() {
	if r.progress && !r.drawn.IsZero() {
		sayf(r.err, "\r\x1b[K")
	}
}
