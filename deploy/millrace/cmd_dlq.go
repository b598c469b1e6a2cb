package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/letters"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
)

// dlqCmd groups the commands about dead letters.
type dlqCmd struct {
	Ls     dlqLsCmd     `cmd:"" help:"List the dead letters."`
	Show   dlqShowCmd   `cmd:"" help:"Show one dead letter: why it failed, where, and its payload."`
	Replay dlqReplayCmd `cmd:"" help:"Send dead letters through the line again."`
	Jobs   dlqJobsCmd   `cmd:"" help:"Show the replays that the line carries out, end them, go on with them."`
	Rm     dlqRmCmd     `cmd:"" help:"Delete dead letters for good."`
}

// dlqFilter holds the flags that select dead letters.
type dlqFilter struct {
	Stage   string `help:"Only those of this stage." placeholder:"STAGE"`
	Reason  string `help:"Only those that failed for this reason." placeholder:"REASON"`
	GroupID string `help:"Only those of this group, as dlq ls --group shows it." placeholder:"ID"`
	ID      string `help:"Only those of this file_id." placeholder:"FILE_ID"`
	Since   string `help:"Only those that failed since: a duration (90m, 24h, 7d), a date or an RFC 3339 time." placeholder:"WHEN"`
	All     bool   `help:"Those too that have been replayed."`
}

func (f *dlqFilter) filter(now time.Time) (letters.Filter, error) {
	out := letters.Filter{
		Stage: contract.Stage(f.Stage), Reason: contract.Reason(f.Reason), Group: f.GroupID, FileID: f.ID, All: f.All,
	}
	err := out.Validate()
	if f.Since != "" {
		var bad error
		if out.Since, bad = parseSince(f.Since, now); bad != nil {
			err = errors.Join(err, bad)
		}
	}
	if err != nil {
		return out, usagef("%w", err)
	}
	return out, nil
}

// parseSince reads a point in time: how long ago, or when.
func parseSince(s string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: it must be like 90m, 24h, 7d, 2025-01-27 or 2025-01-27T14:30:52Z", s)
}

// letters opens the dead-letter queue.
func (g *globals) letters(ctx context.Context) (*letters.Queue, error) {
	l, err := g.ledger(ctx)
	if err != nil {
		return nil, err
	}
	b, err := g.bus(ctx)
	if err != nil {
		return nil, err
	}
	most, err := stage.ReplayMax(g.env)
	if err != nil {
		return nil, usagef("the settings are wrong: %w", err)
	}
	return &letters.Queue{
		Bus: b, Ledger: l, MaxReplays: most,
		Store: func(ctx context.Context) (store.Store, error) { return g.store(ctx) },
	}, nil
}

// dlqLsCmd lists dead letters.
type dlqLsCmd struct {
	Conn   connection `embed:""`
	Filter dlqFilter  `embed:""`
	Group  bool       `help:"Show groups of dead letters that seem to have one cause: same stage, reason and shape of the error."`
	Limit  int        `help:"How many to show, the newest, or of groups the largest; 0 shows all." default:"50"`
	JSON   bool       `help:"Print one JSON array."`
}

// Help is shown by millrace dlq ls --help.
func (*dlqLsCmd) Help() string {
	return "Dead letters that have been replayed are hidden without --all.\n\nExamples:\n  millrace dlq ls --group\n  millrace dlq ls --stage validate --reason schema --since 24h\n  millrace dlq ls --group-id 1a2b3c4d"
}

// maxErrorCell is how much of an error a row shows, in characters.
const maxErrorCell = 70

// maxShapeCell is the same for the shape of errors of a group.
const maxShapeCell = 110

// Run implements the command.
func (c *dlqLsCmd) Run(ctx context.Context, g *globals) error {
	f, err := c.Filter.filter(time.Now())
	if err != nil {
		return err
	}
	f.Newest = c.Limit
	if err := f.Validate(); err != nil {
		return usagef("%w", err)
	}
	q, err := g.letters(ctx)
	if err != nil {
		return err
	}
	if c.Group {
		f.Newest = 0
	}
	found, err := q.List(ctx, f)
	switch {
	case err != nil:
		return err
	case c.Group:
		return c.groups(g, letters.GroupLetters(found))
	case c.JSON:
		return printJSON(g.stdout, slices.Concat([]letters.Letter{}, found))
	case len(found) == 0:
		sayf(g.stderr, "no dead letters\n")
		return nil
	}
	t := newTable(g.stdout, "SEQ", "AGE", "STAGE", "REASON", "TASK", "PROVIDER", "FILE_ID", "REPLAYS", "ERROR")
	for i := range found {
		l := &found[i]
		replays := strconv.Itoa(l.Replays)
		if l.Replayed {
			replays += " (replayed)"
		}
		t.row(strconv.FormatUint(l.Seq, 10), age(time.Since(l.FailedAt)), string(l.Stage), string(l.Reason),
			dash(l.Task), dash(l.Provider), l.FileID, replays, cut(l.Error, maxErrorCell))
	}
	if err := t.flush(); err != nil {
		return err
	}
	if c.Limit > 0 && len(found) == c.Limit {
		sayf(g.stderr, "the newest %d; --limit 0 shows all\n", c.Limit)
	}
	return nil
}

// groups shows groups of dead letters.
func (c *dlqLsCmd) groups(g *globals, groups []letters.Group) error {
	all := len(groups)
	if c.Limit > 0 {
		groups = groups[:min(c.Limit, all)]
	}
	if c.JSON {
		return printJSON(g.stdout, groups)
	}
	if all == 0 {
		sayf(g.stderr, "no dead letters\n")
		return nil
	}
	t := newTable(g.stdout, "GROUP", "COUNT", "FIRST", "LAST", "STAGE", "REASON", "SAMPLE", "ERROR")
	for _, one := range groups {
		t.row(one.ID, strconv.Itoa(one.Count), age(time.Since(one.First)), age(time.Since(one.Last)), string(one.Stage), string(one.Reason),
			strconv.FormatUint(one.Sample, 10), cut(one.Shape, maxShapeCell))
	}
	if err := t.flush(); err != nil {
		return err
	}
	if len(groups) < all {
		sayf(g.stderr, "the largest %d of %d; --limit 0 shows all\n", len(groups), all)
	}
	return nil
}

// dlqShowCmd shows one dead letter.
type dlqShowCmd struct {
	Conn connection `embed:""`
	Ref  string     `arg:"" name:"seq|file_id" help:"Sequence of the dead letter, or a file_id (its newest one)."`
	Raw  bool       `help:"Write the bytes of the payload and nothing else."`
	JSON bool       `help:"Print one JSON object."`
}

// Help is shown by millrace dlq show --help.
func (*dlqShowCmd) Help() string {
	return "Examples:\n  millrace dlq show 17\n  millrace dlq show --raw 17 > body.json"
}

// shownLetter is a dead letter in full.
type shownLetter struct {
	letters.Letter
	Headers      map[string]string `json:"headers"`
	Payload      codec.Value       `json:"payload,omitzero"`        // where it is JSON
	PayloadText  string            `json:"payload_text,omitzero"`   // where it is other text
	PayloadBytes []byte            `json:"payload_base64,omitzero"` // where it is neither
}

// Run implements the command.
func (c *dlqShowCmd) Run(ctx context.Context, g *globals) error {
	q, err := g.letters(ctx)
	if err != nil {
		return err
	}
	l, body, err := c.find(ctx, q)
	if errors.Is(err, letters.ErrNoLetter) {
		return notFoundf("%w", err)
	}
	if err != nil {
		return err
	}
	switch {
	case c.Raw:
		_, err := g.stdout.Write(body)
		return err
	case c.JSON:
		s := shownLetter{Letter: l, Headers: l.Header()}
		switch {
		case codec.Check(body, codec.DefaultDepth) == nil:
			s.Payload = body
		case codec.Text(body):
			s.PayloadText = string(body)
		default:
			s.PayloadBytes = body
		}
		return printJSON(g.stdout, s)
	default:
		return printLetter(g.stdout, &l, body)
	}
}

// find takes a number for a sequence, and where there is none such for a file_id.
func (c *dlqShowCmd) find(ctx context.Context, q *letters.Queue) (letters.Letter, []byte, error) {
	if seq, err := strconv.ParseUint(c.Ref, 10, 64); err == nil && seq > 0 {
		l, body, err := q.Show(ctx, seq, "")
		if !errors.Is(err, letters.ErrNoLetter) {
			return l, body, err
		}
	}
	return q.Show(ctx, 0, c.Ref)
}

func printLetter(w io.Writer, l *letters.Letter, body []byte) error {
	t := newTable(w, "dead letter", strconv.FormatUint(l.Seq, 10))
	t.row("stage", string(l.Stage))
	t.row("reason", string(l.Reason))
	t.row("error", l.Error)
	t.row("group", l.Group)
	t.row("failed at", l.FailedAt.Format(time.RFC3339))
	t.row("file_id", l.FileID)
	t.row("attempts", strings.TrimSpace(strconv.Itoa(l.Attempts)+" "+strings.Join(l.Failures, ", ")))
	replays := strconv.Itoa(l.Replays)
	if l.Replayed {
		replays += ", and replayed since"
	}
	t.row("replays", replays)
	t.row("origin", fmt.Sprintf("%s, message %d of %s, %s", dash(l.Origin.Subject), l.Origin.Seq, dash(l.Origin.Stream), dash(l.Origin.Time)))
	if l.Object != "" {
		t.row("object", l.Object)
	}
	for _, s := range l.Timeline {
		t.row("timeline", fmt.Sprintf("%s  %s  %d ms, attempt %d", s.At.Format(time.RFC3339Nano), s.Stage, s.MS, s.Attempt))
	}
	t.row("timeline", fmt.Sprintf("%s  %s  failed: %s, attempt %d", l.FailedAt.Format(time.RFC3339Nano), l.Stage, l.Reason, l.Attempts))
	for _, name := range slices.Sorted(maps.Keys(l.Header())) {
		t.row("header", name+": "+l.Header()[name])
	}
	if err := t.flush(); err != nil {
		return err
	}
	sayf(w, "\npayload (%d bytes):\n", len(body))
	return printPayload(w, body)
}

// printPayload writes JSON indented and other text as it is, without what would steer a
// terminal.
func printPayload(w io.Writer, body []byte) error {
	var v codec.Value
	if codec.Check(body, codec.DefaultDepth) == nil {
		v = body
		b, err := codec.MarshalIndent(v)
		if err != nil {
			return err
		}
		body = b
	}
	for line := range strings.Lines(string(body)) {
		if _, err := fmt.Fprintln(w, printable(strings.TrimRight(line, "\r\n"))); err != nil {
			return err
		}
	}
	return nil
}

// printCounts shows how many dead letters were selected, by stage and reason.
func printCounts(w io.Writer, selected []letters.Letter) error {
	t := newTable(w, "STAGE", "REASON", "COUNT")
	for _, c := range letters.CountLetters(selected) {
		t.row(string(c.Stage), string(c.Reason), strconv.Itoa(c.Count))
	}
	return t.flush()
}

// confirm asks whether to do something with n things. Where nobody can be asked, only one may
// be dealt with without --yes.
func (g *globals) confirm(what string, n int, yes bool) error {
	if yes {
		return nil
	}
	in, ok := g.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		if n <= 1 {
			return nil
		}
		return usagef("nobody is there to confirm: add --yes to %s", what)
	}
	sayf(g.stderr, "%s? [y/N] ", what)
	var answer string
	_, _ = fmt.Fscanln(in, &answer) // no answer is a no
	if a := strings.ToLower(answer); a != "y" && a != "yes" {
		return errors.New("not confirmed, nothing was done")
	}
	return nil
}
