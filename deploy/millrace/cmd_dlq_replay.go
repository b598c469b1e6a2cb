package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jobspy/millrace/deploy/millrace/operate"
	"github.com/jobspy/millrace/shared/contract"
)

// dlqReplayCmd sends dead letters through the line again.
type dlqReplayCmd struct {
	Conn    connection `embed:""`
	Filter  dlqFilter  `embed:""`
	Seq     []uint64   `help:"Only these; may be given several times." placeholder:"N"`
	DryRun  bool       `help:"Show what would be replayed and change nothing."`
	Rate    string     `help:"At most so many: 10/s, 90/m." placeholder:"N/s"`
	Patch   string     `help:"File with a JSON merge patch (RFC 7396) on each body; - is standard input." placeholder:"FILE"`
	ToStage string     `help:"Send them to this stage instead of the one that failed." placeholder:"STAGE"`
	Yes     bool       `help:"Do not ask." short:"y"`
	JSON    bool       `help:"Print one JSON object for each."`
}

// Help is shown by millrace dlq replay --help.
func (*dlqReplayCmd) Help() string {
	return `Each dead letter is published to where it failed, with a higher replay count. The original stays in LLM_DLQ, marked: what was replayed before is skipped without --all.

Examples:
  millrace dlq replay --stage scrape --reason exhausted --dry-run
  millrace dlq replay --seq 17 --patch fix.json
  millrace dlq replay --reason timeout --since 2h --rate 10/s --yes`
}

// maxPatch is the largest patch that is read, in bytes.
const maxPatch = 1 << 20

// Run implements the command.
func (c *dlqReplayCmd) Run(ctx context.Context, g *globals) error {
	f, r, err := c.parse(g)
	if err != nil {
		return err
	}
	q, err := g.letters(ctx)
	if err != nil {
		return err
	}
	letters, err := q.List(ctx, f)
	if err != nil {
		return err
	}
	if len(letters) == 0 {
		return c.nothing(ctx, g, q, f)
	}
	if err := printCounts(g.stderr, letters); err != nil {
		return err
	}
	if c.DryRun {
		return c.dry(g, letters)
	}
	if err := g.confirm(fmt.Sprintf("replay %d dead letters", len(letters)), len(letters), c.Yes); err != nil {
		return err
	}
	done, failed := 0, 0
	err = q.Replay(ctx, letters, r, func(one operate.Replayed, err error) {
		if err != nil {
			failed++
			sayf(g.stderr, "millrace: dead letter %d (%s): %v\n", one.Seq, printable(one.FileID), err)
		} else {
			done++
		}
		switch {
		case c.JSON:
			_ = printLine(g.stdout, one) // what was done is done, and counted below
		case err == nil:
			sayf(g.stdout, "%d\t%s\t%s\treplay %d\n", one.Seq, one.FileID, one.Subject, one.Count)
		}
	})
	sayf(g.stderr, "%d replayed, %d failed\n", done, failed)
	if err == nil && failed > 0 {
		err = errSaid
	}
	return err
}

func (c *dlqReplayCmd) parse(g *globals) (operate.Filter, operate.Replay, error) {
	r := operate.Replay{To: contract.Stage(c.ToStage)}
	f, err := c.Filter.filter(time.Now())
	if err != nil {
		return f, r, err
	}
	f.Seqs = c.Seq
	if err := (operate.Filter{Stage: r.To}).Validate(); err != nil {
		return f, r, usagef("--to-stage: %w", err)
	}
	if c.Rate != "" {
		if r.Rate, err = operate.ParseRate(c.Rate); err != nil {
			return f, r, usagef("%w", err)
		}
	}
	if c.Patch != "" {
		if r.Patch, err = c.readPatch(g); err != nil {
			return f, r, err
		}
	}
	return f, r, nil
}

// readPatch reads the patch and tries it, so that a broken one is found before anything is
// done.
func (c *dlqReplayCmd) readPatch(g *globals) ([]byte, error) {
	in := g.stdin
	if c.Patch != operate.Stdin {
		f, err := os.Open(c.Patch)
		if err != nil {
			return nil, usagef("--patch: %w", err)
		}
		defer f.Close()
		in = f
	}
	patch, err := io.ReadAll(io.LimitReader(in, maxPatch+1))
	if err != nil {
		return nil, fmt.Errorf("read the patch %s: %w", c.Patch, err)
	}
	if len(patch) > maxPatch {
		return nil, usagef("the patch %s is over %d bytes", c.Patch, maxPatch)
	}
	if _, err := operate.MergePatch([]byte(`{}`), patch); err != nil {
		return nil, usagef("--patch %s: %w", c.Patch, err)
	}
	return patch, nil
}

// nothing says why there is nothing to replay; that is an error where one was named.
func (c *dlqReplayCmd) nothing(ctx context.Context, g *globals, q *operate.DeadLetters, f operate.Filter) error {
	f.All = true
	before, err := q.List(ctx, f)
	if err != nil {
		return err
	}
	text := "no dead letter is selected"
	if len(before) > 0 {
		text = fmt.Sprintf("all %d selected dead letters have been replayed before; --all takes them too", len(before))
	}
	if len(c.Seq) > 0 || c.Filter.ID != "" {
		return notFoundf("%s", text)
	}
	sayf(g.stderr, "%s\n", text)
	return nil
}

func (c *dlqReplayCmd) dry(g *globals, letters []operate.Letter) error {
	for i := range letters {
		l := &letters[i]
		if c.JSON {
			if err := printLine(g.stdout, l); err != nil {
				return err
			}
			continue
		}
		sayf(g.stdout, "%d\t%s\t%s/%s\n", l.Seq, printable(l.FileID), l.Stage, l.Reason)
	}
	sayf(g.stderr, "dry run: %d would be replayed\n", len(letters))
	return nil
}

// dlqRmCmd deletes dead letters.
type dlqRmCmd struct {
	Conn   connection `embed:""`
	Filter dlqFilter  `embed:""`
	Seq    []uint64   `help:"Only these; may be given several times." placeholder:"N"`
	DryRun bool       `help:"Show what would be deleted and change nothing."`
	Yes    bool       `help:"Do not ask." short:"y"`
}

// Help is shown by millrace dlq rm --help.
func (*dlqRmCmd) Help() string {
	return "The objects in the bucket llm-dlq stay.\n\nExample:\n  millrace dlq rm --stage ingest --reason malformed --since 2025-01-01 --yes"
}

// Run implements the command.
func (c *dlqRmCmd) Run(ctx context.Context, g *globals) error {
	f, err := c.Filter.filter(time.Now())
	if err != nil {
		return err
	}
	f.Seqs = c.Seq
	q, err := g.letters(ctx)
	if err != nil {
		return err
	}
	letters, err := q.List(ctx, f)
	if err != nil {
		return err
	}
	if len(letters) == 0 {
		if len(c.Seq) > 0 || c.Filter.ID != "" {
			return notFoundf("no dead letter is selected; --all takes those too that have been replayed")
		}
		sayf(g.stderr, "no dead letter is selected\n")
		return nil
	}
	if err := printCounts(g.stderr, letters); err != nil {
		return err
	}
	if c.DryRun {
		sayf(g.stderr, "dry run: %d would be deleted\n", len(letters))
		return nil
	}
	if err := g.confirm(fmt.Sprintf("delete %d dead letters", len(letters)), len(letters), c.Yes); err != nil {
		return err
	}
	n, err := q.Remove(ctx, letters)
	sayf(g.stderr, "%d deleted\n", n)
	return err
}
