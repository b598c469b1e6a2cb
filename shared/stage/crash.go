package stage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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

// markAlone writes down that a message runs alone, before it does, and in which delivery.
func (r *Runner) markAlone(ctx context.Context, w *work) error {
	kv, err := r.marks.KV(ctx)
	if err != nil {
		return err
	}
	m := w.Message()
	_, err = kv.Put(ctx, aloneKey(m.Stream, m.Seq), []byte(strconv.Itoa(w.Count())), aloneTTL)
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

// killed reports whether the last delivery ended while the message ran alone. A mark of an
// earlier one says nothing: since then others may have killed the process. Marks of the release
// before do not name the delivery.
func (a *advisory) killed(mark []byte) bool {
	n, err := strconv.Atoi(string(mark))
	return err != nil || n == a.Deliveries
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
