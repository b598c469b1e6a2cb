package letters

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/fault"
)

// pace is the part of a second in which what a rate allows is sent at once.
const pace = 5

// may returns how many replays may be decided on now.
func (t *turn) may() int {
	if !t.rec.State.Sends() || len(t.rec.Sending) > 0 {
		return 0
	}
	n := min(batch, window-len(t.rec.Open), len(t.plan.Seqs)-t.rec.Next)
	if t.rec.State == JobCanary {
		n = min(n, t.rec.CanaryLeft)
	}
	if t.plan.Rate > 0 {
		if t.Now().Before(t.rec.SendAt) {
			return 0
		}
		n = min(n, int(math.Ceil(min(t.plan.Rate, batch*pace)/pace)))
	}
	return max(n, 0)
}

// decide chooses the letters that are sent next, with their counts, or ends the job where all
// of it is over.
func (t *turn) decide(ctx context.Context) (changed bool, err error) {
	if n := t.may(); n > 0 {
		return true, t.choose(ctx, t.plan.Seqs[t.rec.Next:t.rec.Next+n])
	}
	if len(t.rec.Sending) > 0 || t.rec.State.Sends() && t.rec.Next < len(t.plan.Seqs) {
		return false, nil
	}
	if open := len(t.rec.Open); open > 0 {
		if t.Now().Sub(t.rec.SentAt) < settleFor {
			return false, nil
		}
		t.rec.Why = fmt.Sprintf("%d have not come to an end within %s", open, settleFor)
		t.rec.Open, changed = nil, true
	}
	if t.rec.State.Sends() {
		t.rec.State, t.rec.EndedAt, changed = JobDone, t.Now().UTC(), true
	}
	return changed, nil
}

// choice is what was decided about one letter.
type choice struct {
	sent
	bytes int   // of its body
	skip  error // why it is not sent
}

// choose decides about letters, which are the next of the plan.
func (t *turn) choose(ctx context.Context, seqs []uint64) error {
	chosen := make([]choice, len(seqs))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(ledgerParallel)
	for i, seq := range seqs {
		g.Go(func() (err error) {
			chosen[i], err = t.look(gctx, seq)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	n := 0
	t.largest = 0
	for _, c := range chosen {
		if c.skip != nil {
			t.skip(c.sent, c.skip)
			continue
		}
		n++
		t.largest = max(t.largest, c.bytes)
		t.rec.Sending = append(t.rec.Sending, c.sent)
	}
	t.rec.Next += len(seqs)
	t.rec.DecidedAt = t.Now().UTC()
	t.rec.CanaryLeft = max(t.rec.CanaryLeft-n, 0)
	if t.rec.Next == len(t.plan.Seqs) {
		t.rec.CanaryLeft = 0
	}
	if t.plan.Rate > 0 {
		from := t.rec.SendAt
		if now := t.Now().UTC(); from.Before(now) {
			from = now
		}
		t.rec.SendAt = from.Add(time.Duration(float64(n) / t.plan.Rate * float64(time.Second)))
	}
	return nil
}

// look decides about one letter. An error says that nothing was learnt about it.
func (t *turn) look(ctx context.Context, seq uint64) (choice, error) {
	c := choice{sent: sent{Seq: seq}}
	l, _, err := t.Queue.get(ctx, seq)
	if err == nil {
		c.FileID, c.bytes = l.FileID, l.Bytes
		c.Count, err = t.Queue.next(ctx, &l)
	}
	if err == nil && !t.plan.Again {
		var before bool
		if before, err = t.Queue.replayed(ctx, &l); before {
			err = ErrReplayed
		}
	}
	if fault.Of(err).Kind == fault.Unavailable {
		return c, err
	}
	if errors.Is(err, ErrReplayed) {
		err = errors.New("was replayed by somebody else meanwhile")
	}
	c.skip = err
	return c, nil
}

// skip counts a letter that is not sent.
func (t *turn) skip(s sent, err error) {
	t.rec.Skipped++
	t.rec.problem(Problem{Seq: s.Seq, FileID: s.FileID, Error: err.Error()})
}
