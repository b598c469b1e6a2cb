package stage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/failpoint"
	"github.com/jobspy/millrace/shared/fault"
)

// aloneTTL is how long it is remembered that a message ran alone. It is longer than the
// broker needs to deliver it as often as it ever will.
const aloneTTL = time.Hour

// aloneKey names the mark of a message that ran alone.
func aloneKey(stream string, seq uint64) string { return fmt.Sprintf("alone.%s.%d", stream, seq) }

// aloneMark is the mark of a message that runs alone.
type aloneMark struct {
	delivery int
	died     int // how often the process died before while it ran alone
}

func (a aloneMark) String() string { return fmt.Sprintf("%d/%d", a.delivery, a.died) }

// parseAlone reads a mark; ok is false for that of the release before, which only was there.
func parseAlone(mark []byte) (a aloneMark, ok bool) {
	n, err := fmt.Sscanf(string(mark), "%d/%d", &a.delivery, &a.died)
	return a, n == 2 && err == nil
}

// markAlone writes down that a message runs alone, before it does, in which delivery, and how
// often the process died while it did: a mark that is still there was never taken back.
func (r *Runner) markAlone(ctx context.Context, w *work) error {
	kv, err := r.marks.KV(ctx)
	if err != nil {
		return err
	}
	m := w.Message()
	mark := aloneMark{delivery: w.Count()}
	e, err := kv.Get(ctx, aloneKey(m.Stream, m.Seq))
	switch {
	case err == nil:
		before, _ := parseAlone(e.Value)
		mark.died = before.died + 1
	case !errors.Is(err, bus.ErrNotFound):
		return err
	}
	_, err = kv.Put(ctx, aloneKey(m.Stream, m.Seq), []byte(mark.String()), aloneTTL)
	return err
}

// unmarkAlone takes the mark back when the handler has returned: whatever kills the process
// from now on, it is not the handling of this message.
func (r *Runner) unmarkAlone(ctx context.Context, w *work) error {
	kv, err := r.marks.KV(ctx)
	if err != nil {
		return err
	}
	m := w.Message()
	return kv.Delete(ctx, aloneKey(m.Stream, m.Seq))
}

// advisory is what the broker says of a message that it will not deliver any more.
type advisory struct {
	Stream     string `json:"stream"`
	Seq        uint64 `json:"stream_seq"`
	Deliveries int    `json:"deliveries"`
}

// killed reports whether the last delivery ended while the message ran alone, and one before it
// too: once may be chance, for anything else may end a process as well. A mark of an earlier
// delivery says nothing: since then others may have killed the process. Marks of the release
// before tell neither.
func (a *advisory) killed(mark []byte) bool {
	m, ok := parseAlone(mark)
	return !ok || m.delivery == a.Deliveries && m.died > 0
}

// sweep takes care of a message that was delivered too often: one that ran alone when its
// process died the last time is a dead letter, any other begins afresh.
func (r *Runner) sweep(ctx context.Context, w *work) {
	err := r.hold(ctx, "advisory", func(ctx context.Context) error { return r.sweepOnce(ctx, w) },
		func(err error) bool { return fault.Of(err).Kind == fault.Permanent })
	if err == nil {
		err = r.ack(ctx, w)
	}
	if err != nil {
		r.log.Debug().Err(err).Msg("advisory handed back")
		w.giveBack()
	}
}

func (r *Runner) sweepOnce(ctx context.Context, w *work) error {
	var a advisory
	if err := codec.Unmarshal(w.Message().Body, &a); err != nil {
		r.log.Error().Err(err).Msg("the broker's advisory cannot be read")
		return nil
	}
	if failpoint.Without(failpoint.Sweeper) {
		return nil
	}
	m, err := r.Deps.Bus.Get(ctx, a.Stream, a.Seq)
	if errors.Is(err, bus.ErrNotFound) {
		return nil // it came to its end after all
	}
	if err != nil {
		return err
	}
	kv, err := r.marks.KV(ctx)
	if err != nil {
		return err
	}
	d, unread := r.decode(ctx, m)
	if fault.Of(unread).Kind == fault.Unavailable {
		return unread
	}
	mark, err := kv.Get(ctx, aloneKey(a.Stream, a.Seq))
	switch {
	case errors.Is(err, bus.ErrNotFound), err == nil && !a.killed(mark.Value):
		err = r.reschedule(ctx, d, time.Second)
	case err == nil:
		cause := errors.New("the process died each time this message was worked on")
		err = r.swept(ctx, d, cause)
	}
	if err != nil {
		return err
	}
	if err := r.Deps.Bus.Delete(ctx, a.Stream, a.Seq); err != nil && !errors.Is(err, bus.ErrNotFound) {
		return err
	}
	return nil
}

// swept ends a message that nobody holds: as a dead letter, or as what the handler says.
func (r *Runner) swept(ctx context.Context, d *doc.Document, cause error) error {
	if d.Timer != "" && d.Timer != contract.TimerJoin {
		r.Metrics.outcome(r.Stage, outcomeFailed, contract.ReasonPanic)
		return nil // a timer is not a document and comes again by itself
	}
	if h, ok := r.Handler.(GaveUp); ok {
		if outs := h.GaveUp(d, contract.ReasonPanic, cause); len(outs) > 0 {
			return r.publishAll(ctx, d, outs, doc.Step{Stage: r.Stage, At: r.Deps.Clock().UTC(), Attempt: d.Attempt})
		}
	}
	r.Metrics.outcome(r.Stage, outcomeDead, contract.ReasonPanic)
	return r.deadLetter(ctx, d, contract.ReasonPanic, cause)
}
