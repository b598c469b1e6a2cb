package letters

import (
	"context"
	"errors"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/inbox"
)

// carry publishes what was decided on. Where that was begun before and broken off, what is
// marked, or under way, is not sent again, and anything else has the same message id.
func (t *turn) carry(ctx context.Context) (changed bool, err error) {
	t.full = false
	if len(t.rec.Sending) == 0 {
		return false, nil
	}
	flying := map[sent]bool{}
	if !t.ours {
		if flying, err = t.underWay(ctx); err != nil {
			return false, err
		}
	}
	ends := make([]error, len(t.rec.Sending))
	parallel := ledgerParallel
	if t.ours && len(t.rec.Sending) == batch && t.largest <= inbox.MaxMessage {
		parallel, ctx = batch, bus.Gather(ctx)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, s := range t.rec.Sending {
		g.Go(func() error {
			err := t.send(gctx, s, flying[s])
			if errors.Is(err, bus.ErrFull) || errors.Is(err, bus.ErrNoStream) || fault.Of(err).Kind != fault.Unavailable {
				ends[i], err = err, nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return false, err
	}
	var left []sent
	for i, s := range t.rec.Sending {
		switch err := ends[i]; {
		case err == nil:
			t.rec.Sent++
			t.rec.Open = append(t.rec.Open, s)
		case errors.Is(err, bus.ErrFull), errors.Is(err, bus.ErrNoStream):
			t.full = true
			left = append(left, s)
		default:
			t.skip(s, err)
			if t.rec.State == JobCanary && t.rec.Next < len(t.plan.Seqs) {
				t.rec.CanaryLeft++ // another takes its place
			}
		}
	}
	changed = len(left) < len(t.rec.Sending)
	t.rec.Sending = left
	t.rec.SentAt = t.Now().UTC()
	return changed, nil
}

// send publishes one replay, waits for the confirmation, and then marks the letter. One that is
// under way already is only marked.
func (t *turn) send(ctx context.Context, s sent, flying bool) error {
	q := t.Queue
	if flying {
		return q.markReplayed(ctx, &Letter{Seq: s.Seq, FileID: s.FileID}, s.Count)
	}
	if !t.ours {
		if done, err := q.wasSent(ctx, s); done || err != nil {
			return err
		}
	}
	l, body, err := q.get(ctx, s.Seq)
	if err != nil {
		return err
	}
	m, err := q.message(ctx, &l, body, t.plan.Replay, s.Count)
	if err != nil {
		return err
	}
	// A duplicate is the publish of a turn that was broken off before it could mark it.
	if _, err := bus.Insist(ctx, q.Bus, m); err != nil {
		return err
	}
	return q.markReplayed(ctx, &l, s.Count)
}

// underWay finds those of the replays that were decided on in the queues of the line, in its
// order: the broker knows message ids for some minutes only.
func (t *turn) underWay(ctx context.Context) (map[sent]bool, error) {
	found := map[sent]bool{}
	var streams []string
	for _, s := range contract.Stages() {
		streams = append(streams, contract.StageStream(s))
	}
	for _, stream := range append(streams, contract.StreamRetry) {
		from, err := t.Queue.Bus.SeqAt(ctx, stream, t.rec.DecidedAt.Add(-scanSlack))
		if err != nil {
			return nil, err
		}
		for m, err := range t.Queue.Bus.Scan(ctx, stream, "", from) {
			if err != nil {
				return nil, err
			}
			d := doc.FromMessage(m)
			if seq, err := strconv.ParseUint(d.ReplayOf, 10, 64); err == nil {
				found[sent{Seq: seq, FileID: d.Metadata.FileID, Count: d.Replay}] = true
			}
		}
	}
	return found, nil
}

// wasSent reports whether a replay was published, by the mark of its letter or by what the
// ledger knows of its document.
func (q *Queue) wasSent(ctx context.Context, s sent) (bool, error) {
	count, err := q.marked(ctx, s.Seq)
	if err != nil || count == s.Count {
		return err == nil, err
	}
	known, err := q.count(ctx, s.FileID)
	if err != nil || known < s.Count {
		return false, err
	}
	return true, q.markReplayed(ctx, &Letter{Seq: s.Seq, FileID: s.FileID}, s.Count)
}
