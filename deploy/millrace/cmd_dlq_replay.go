package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jobspy/millrace/deploy/millrace/operate"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/letters"
)

// dlqReplayCmd sends dead letters through the line again.
type dlqReplayCmd struct {
	Conn          connection `embed:""`
	Filter        dlqFilter  `embed:""`
	Seq           []uint64   `help:"Only these; may be given several times." placeholder:"N"`
	DryRun        bool       `help:"Show what would be replayed and change nothing."`
	Canary        int        `help:"Send so many first, wait for their ends, and go on only where all completed." placeholder:"N"`
	Rate          string     `help:"At most so many: 10/s, 90/m." placeholder:"N/s"`
	StopOnFailure string     `help:"Stop when more than this share of the replays came back: 0.1 or 10%." placeholder:"SHARE"`
	Patch         string     `help:"File with a JSON merge patch (RFC 7396) on each body; - is standard input." placeholder:"FILE"`
	ToStage       string     `help:"Send them to this stage instead of the one that failed." placeholder:"STAGE"`
	Detach        bool       `help:"Begin a job, print its id and do not wait for it."`
	Yes           bool       `help:"Do not ask." short:"y"`
	JSON          bool       `help:"Print JSON: of one dead letter what became of it, of more the job."`
}

// Help is shown by millrace dlq replay --help.
func (*dlqReplayCmd) Help() string {
	return `Each dead letter is published to where it failed, with a higher replay count, at most REPLAY_MAX times. The original stays in LLM_DLQ, marked: what was replayed before is skipped without --all.

One dead letter is sent at once. More are a job, which the archive stage carries out: it goes on when this command is interrupted, and millrace dlq jobs shows it. What comes back is a dead letter again; until 20 have ended, --stop-on-failure counts as if 20 had. A patched document is held against the schema of its task first, and not sent where it does not fit.

Examples:
  millrace dlq replay --stage scrape --reason exhausted --dry-run
  millrace dlq replay --seq 17 --patch fix.json
  millrace dlq replay --group-id 1a2b3c4d --canary 5 --stop-on-failure 10%
  millrace dlq replay --reason timeout --since 2h --rate 10/s --yes --detach`
}

// maxPatch is the largest patch that is read, in bytes.
const maxPatch = 1 << 20

// Run implements the command.
func (c *dlqReplayCmd) Run(ctx context.Context, g *globals) error {
	f, p, err := c.parse(g)
	if err != nil {
		return err
	}
	q, err := g.letters(ctx)
	if err != nil {
		return err
	}
	selected, err := q.List(ctx, f)
	if err != nil {
		return err
	}
	if len(selected) == 0 {
		return c.nothing(ctx, g, q, f)
	}
	if err := printCounts(g.stderr, selected); err != nil {
		return err
	}
	good, err := c.check(ctx, g, q, selected, p.Replay)
	if err != nil {
		return err
	}
	refused := len(selected) - len(good)
	if c.DryRun {
		return c.dry(g, good, refused)
	}
	if len(good) == 0 {
		sayf(g.stderr, "nothing was sent, %d refused\n", refused)
		return errSaid
	}
	if err := g.confirm(fmt.Sprintf("replay %d dead letters", len(good)), len(good), c.Yes); err != nil {
		return err
	}
	if len(good) == 1 && p.Canary == 0 && p.StopAbove == nil && !c.Detach {
		err = c.one(ctx, g, q, good[0], p.Replay)
	} else {
		err = c.job(ctx, g, good, p)
	}
	if err == nil && refused > 0 {
		sayf(g.stderr, "%d refused\n", refused)
		err = errSaid
	}
	return err
}

func (c *dlqReplayCmd) parse(g *globals) (letters.Filter, letters.Plan, error) {
	p := letters.Plan{Replay: letters.Replay{To: contract.Stage(c.ToStage)}, Canary: c.Canary, Again: c.Filter.All}
	f, err := c.Filter.filter(time.Now())
	if err != nil {
		return f, p, err
	}
	f.Seqs = c.Seq
	if err := (letters.Filter{Stage: p.To}).Validate(); err != nil {
		return f, p, usagef("--to-stage: %w", err)
	}
	if c.Canary < 0 {
		return f, p, usagef("--canary %d is below 0", c.Canary)
	}
	if c.StopOnFailure != "" {
		share, err := letters.ParseShare(c.StopOnFailure)
		if err != nil {
			return f, p, usagef("--stop-on-failure: %w", err)
		}
		p.StopAbove = &share
	}
	if c.Rate != "" {
		if p.Rate, err = letters.ParseRate(c.Rate); err != nil {
			return f, p, usagef("%w", err)
		}
	}
	if c.Patch != "" {
		if p.Patch, err = c.readPatch(g); err != nil {
			return f, p, err
		}
	}
	return f, p, nil
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
	if _, err := letters.MergePatch([]byte(`{}`), patch); err != nil {
		return nil, usagef("--patch %s: %w", c.Patch, err)
	}
	return patch, nil
}

// check returns the letters that may be sent, and tells of each other one why not.
func (c *dlqReplayCmd) check(ctx context.Context, g *globals, q *letters.Queue, selected []letters.Letter, r letters.Replay) ([]letters.Letter, error) {
	var patched *operate.PatchCheck
	if r.Patch != nil {
		var err error
		if patched, err = operate.NewPatchCheck(ctx, g.env); err != nil {
			return nil, usagef("the settings are wrong: %w", err)
		}
	}
	var good []letters.Letter
	for i := range selected {
		l := &selected[i]
		err := q.Allows(l.Replays + 1)
		if err == nil && patched != nil {
			err = patched.Check(ctx, q, l, r)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err == nil {
			good = append(good, *l)
			continue
		}
		sayf(g.stderr, "millrace: dead letter %d (%s) is not sent: %s\n", l.Seq, printable(l.FileID), printable(err.Error()))
		if c.JSON && len(selected) == 1 && !c.DryRun {
			if err := printLine(g.stdout, letters.Replayed{Seq: l.Seq, FileID: l.FileID, Error: err.Error()}); err != nil {
				return nil, err
			}
		}
	}
	return good, nil
}

// one sends one dead letter at once.
func (c *dlqReplayCmd) one(ctx context.Context, g *globals, q *letters.Queue, l letters.Letter, r letters.Replay) error {
	done, err := q.Send(ctx, l.Seq, r)
	if err != nil {
		done.Error = err.Error()
		sayf(g.stderr, "millrace: dead letter %d (%s): %v\n", done.Seq, printable(done.FileID), err)
	}
	switch {
	case c.JSON:
		_ = printLine(g.stdout, done) // what was done is done, and counted below
	case err == nil:
		sayf(g.stdout, "%d\t%s\t%s\treplay %d\n", done.Seq, done.FileID, done.Subject, done.Count)
	}
	if err != nil {
		sayf(g.stderr, "0 replayed, 1 failed\n")
		return errSaid
	}
	sayf(g.stderr, "1 replayed, 0 failed\n")
	return nil
}

// job lets the line send dead letters.
func (c *dlqReplayCmd) job(ctx context.Context, g *globals, good []letters.Letter, p letters.Plan) error {
	jobs, err := g.jobs(ctx)
	if err != nil {
		return err
	}
	j, err := jobs.Create(ctx, good, p, c.what())
	if err != nil {
		return err
	}
	if c.Detach {
		return begun(g, j, c.JSON)
	}
	return (&following{g: g, jobs: jobs, json: c.JSON}).follow(ctx, j)
}

// what says in words what was selected.
func (c *dlqReplayCmd) what() string {
	var parts []string
	for _, p := range []struct{ flag, value string }{
		{"group", c.Filter.GroupID}, {"stage", c.Filter.Stage}, {"reason", c.Filter.Reason}, {"id", c.Filter.ID}, {"since", c.Filter.Since},
	} {
		if p.value != "" {
			parts = append(parts, p.flag+" "+p.value)
		}
	}
	if len(c.Seq) > 0 {
		parts = append(parts, fmt.Sprintf("%d chosen", len(c.Seq)))
	}
	if len(parts) == 0 {
		return "everything"
	}
	return strings.Join(parts, ", ")
}

// nothing says why there is nothing to replay; that is an error where one was named.
func (c *dlqReplayCmd) nothing(ctx context.Context, g *globals, q *letters.Queue, f letters.Filter) error {
	f.All = true
	before, err := q.List(ctx, f)
	if err != nil {
		return err
	}
	text := "no dead letter is selected"
	if len(before) > 0 {
		text = fmt.Sprintf("all %d selected dead letters have been replayed before; --all takes them too", len(before))
	}
	if len(c.Seq) > 0 || c.Filter.ID != "" || c.Filter.GroupID != "" {
		return notFoundf("%s", text)
	}
	sayf(g.stderr, "%s\n", text)
	return nil
}

func (c *dlqReplayCmd) dry(g *globals, good []letters.Letter, refused int) error {
	for i := range good {
		l := &good[i]
		if c.JSON {
			if err := printLine(g.stdout, l); err != nil {
				return err
			}
			continue
		}
		sayf(g.stdout, "%d\t%s\t%s/%s\n", l.Seq, printable(l.FileID), l.Stage, l.Reason)
	}
	sayf(g.stderr, "dry run: %d would be replayed\n", len(good))
	if refused > 0 {
		sayf(g.stderr, "%d would be refused\n", refused)
		return errSaid
	}
	return nil
}
