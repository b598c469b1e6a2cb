package letters

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/slot"
)

const (
	// window is how many replays of one job are under way at most, so that a share of failures
	// is seen before all have been sent.
	window = 512
	// batch is how many replays are decided on at once. It bounds what has to be looked at again
	// after a crash.
	batch = 64
	// lookFirst and lookMost are the pauses between two looks at what is under way; each of that
	// adds lookEach to the first.
	lookFirst = 20 * time.Millisecond
	lookEach  = 500 * time.Microsecond
	lookMost  = 2 * time.Second
	// settleFor is how long the ends of replays are waited for after the last was sent.
	settleFor = 24 * time.Hour
)

// Executor carries out jobs. Everything it knows of a job lies in the broker: whoever has the
// next turn goes on where the last one stopped, however that ended.
type Executor struct {
	Queue *Queue
	Now   func() time.Time
	Log   zerolog.Logger
}

// turn is one turn at a job.
type turn struct {
	*Executor
	jobs Jobs
	kv   bus.KV
	plan Plan
	rec  record
	rev  uint64
	// ours says that this turn decided on all of rec.Sending and published none of it.
	ours bool
	// largest is the size of the largest body of those that this turn decided on, in bytes. It
	// says how many may be in memory at once.
	largest int
	// full says that a queue refused a replay, which is then offered again.
	full bool
}

// Turn works on a job until it has ended or the time is over. Several turns at one time are
// harmless: only one of them can decide what comes next.
func (e *Executor) Turn(ctx context.Context, id string, until time.Time) error {
	kv, err := e.Queue.Bus.KV(ctx, contract.KVJoin)
	if err != nil {
		return err
	}
	t := &turn{Executor: e, jobs: Jobs{Bus: e.Queue.Bus, Now: e.Now}, kv: kv}
	if err := t.load(ctx, id); errors.Is(err, ErrNoJob) {
		return t.jobs.rest(ctx, id)
	} else if err != nil {
		return err
	}
	for pause := lookFirst; ; {
		changed, err := t.step(ctx)
		switch {
		case errors.Is(err, bus.ErrRevision):
			if err := t.load(ctx, id); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		case t.rec.settled():
			return t.jobs.rest(ctx, id)
		case !e.Now().Before(until):
			return nil
		case len(t.rec.Sending) > 0 && !t.full:
			continue
		}
		pause = t.pause(pause, changed)
		if err := idle(ctx, pause); err != nil {
			return err
		}
	}
}

// pause returns how long to wait for the next look, after one that found something or nothing
// new: the longer the more there is to look at.
func (t *turn) pause(last time.Duration, changed bool) time.Duration {
	next := min(2*last, lookMost)
	if changed && !t.full {
		next = lookFirst + time.Duration(len(t.rec.Open))*lookEach
	}
	if due := t.rec.SendAt.Sub(t.Now()); t.rec.State.Sends() && due > 0 {
		next = min(next, due)
	}
	return next
}

// idle waits for d without taking anybody's place.
func idle(ctx context.Context, d time.Duration) error {
	defer slot.Pause(ctx)()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// load reads the job, and its plan the first time. A job whose plan is gone is over.
func (t *turn) load(ctx context.Context, id string) (err error) {
	if t.rec, t.rev, err = readJob(ctx, t.kv, id); err != nil {
		return err
	}
	t.ours = false
	if len(t.plan.Seqs) > 0 || t.rec.State == JobDone {
		return nil
	}
	e, err := t.kv.Get(ctx, keyPlan(id))
	if errors.Is(err, bus.ErrNotFound) {
		t.rec.State, t.rec.Why, t.rec.Sending, t.rec.Open = JobStopped, "its plan is gone", nil, nil
		return t.save(ctx)
	}
	if err != nil {
		return err
	}
	if err := codec.Unmarshal(e.Value, &t.plan); err != nil {
		return fmt.Errorf("read the plan of job %s: %w", id, err)
	}
	return nil
}

// save writes how far the job has come.
func (t *turn) save(ctx context.Context) error {
	rev, err := t.rec.write(ctx, t.kv, t.rev)
	if err != nil {
		return err
	}
	t.rev = rev
	return nil
}

// step publishes what was decided on, looks what has come to an end, and decides what comes
// next; then it writes down all of it at once.
func (t *turn) step(ctx context.Context) (changed bool, err error) {
	if t.rec.BegunAt.IsZero() {
		t.rec.BegunAt, changed = t.Now().UTC(), true
	}
	for _, f := range []func(context.Context) (bool, error){t.carry, t.settle, t.decide} {
		did, err := f(ctx)
		if err != nil {
			return false, err
		}
		changed = changed || did
	}
	if !changed {
		return false, nil
	}
	if err := t.save(ctx); err != nil {
		return false, err
	}
	t.ours = !t.full
	if t.rec.State == JobDone {
		err = t.kv.Delete(ctx, keyPlan(t.rec.ID))
	}
	return true, err
}

// settle counts what has come to an end, and then judges the job.
func (t *turn) settle(ctx context.Context) (changed bool, err error) {
	found := make([]ledger.Entry, len(t.rec.Open))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(ledgerParallel)
	for i, s := range t.rec.Open {
		g.Go(func() (err error) {
			found[i], err = t.Queue.Ledger.Read(gctx, s.FileID)
			if errors.Is(err, bus.ErrNotFound) {
				return nil // its document was forgotten, and has not been entered again yet
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return false, err
	}
	var open []sent
	for i, s := range t.rec.Open {
		switch e := found[i]; {
		case e.Replay > s.Count:
			t.back(s, fmt.Sprintf("was replayed again, as replay %d", e.Replay))
		case e.Replay < s.Count || e.State != ledger.Done:
			open = append(open, s)
		case e.Holder.Kind == ledger.Dead:
			t.back(s, fmt.Sprintf("came back from %s: %s", e.Stage, e.Reason))
		default:
			t.rec.Completed++
		}
	}
	changed = len(open) < len(t.rec.Open)
	t.rec.Open = open
	if t.rec.judge() {
		changed = true
	}
	if !t.rec.State.Sends() && t.rec.EndedAt.IsZero() {
		t.rec.EndedAt = t.Now().UTC()
	}
	return changed, nil
}

// back counts a replay that did not complete.
func (t *turn) back(s sent, text string) {
	t.rec.Failed++
	t.rec.problem(Problem{Seq: s.Seq, FileID: s.FileID, Error: text, Back: true})
}
