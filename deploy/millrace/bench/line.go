package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
)

const (
	// emptyPoll is how often the queues are looked at once every document has ended. It is the
	// exactness of the last acknowledgement.
	emptyPoll = 10 * time.Millisecond
	// fullPause is the pause before a publish is repeated that a full queue refused.
	fullPause = 10 * time.Millisecond
)

// LineResult is what the line did with documents that came as fast as it took them.
type LineResult struct {
	Documents int `json:"documents"`
	Dead      int `json:"dead_letters"`
	Missing   int `json:"not_ended"`
	Refused   int `json:"publishes_refused"` // by a full queue, and repeated
	// Accepted is publishes acknowledged a second, Completed terminal records a second up to
	// the last, and Rate documents a second up to the last acknowledgement of the last stage,
	// all from the first publish.
	Accepted  float64   `json:"accepted_per_s"`
	Completed float64   `json:"completed_per_s"`
	Rate      float64   `json:"documents_per_s"`
	Tenths    []float64 `json:"tenths_per_s,omitempty"` // terminal records a second in each tenth of them
	Emptied   bool      `json:"emptied"`                // else Rate is that up to the last look

	Use   []Use    `json:"use,omitempty"`
	Check *Checked `json:"check,omitempty"`
}

// line measures what the line does with the documents.
func (r *run) line(ctx context.Context) error {
	r.progress(fmt.Sprintf("the line, %d documents", r.Documents))
	n, err := busy(ctx, r.Producer)
	if err != nil {
		return err
	}
	if n > 0 {
		return fmt.Errorf("%w: %d messages", ErrBusy, n)
	}
	documents, err := r.corpus()
	if err != nil {
		return err
	}
	first := r.sent
	r.sent += r.Documents
	e, err := r.watch(ctx, first, r.Documents, nil)
	if err != nil {
		return err
	}
	defer e.stop()

	used := measure(r.PIDs)
	out := &LineResult{Documents: r.Documents}
	var refused atomic.Int64
	began := time.Now()
	accepted, took, err := burst{inFlight: publishers, count: r.Documents}.run(ctx, func(ctx context.Context, i int) error {
		d, err := documents.document(first + i)
		if err != nil {
			return err
		}
		return r.publish(ctx, d, &refused)
	})
	if err != nil {
		return err
	}
	out.Refused, out.Accepted = int(refused.Load()), rate(accepted, took)
	if err := e.wait(ctx, r.Wait); err != nil {
		return err
	}
	last, emptied, err := r.emptied(ctx)
	if err != nil {
		return err
	}
	out.Use = used()
	at, dead, left := e.times()
	out.Dead, out.Missing, out.Emptied = dead, left, emptied
	out.Tenths = tenths(began, at)
	if len(at) > 0 {
		out.Completed = rate(len(at), at[len(at)-1].Sub(began))
		out.Rate = rate(len(at), last.Sub(began))
	}
	r.report.Line = out
	if r.Check != CheckNone {
		r.progress("reading back what was stored")
		if out.Check, err = r.check(ctx, documents, first, r.Documents, e.completed); err != nil {
			return fmt.Errorf("read back what was stored: %w", err)
		}
	}
	return nil
}

// publish publishes a document and repeats it while the queue is full.
func (r *run) publish(ctx context.Context, d document, refused *atomic.Int64) error {
	for {
		_, err := r.Producer.Publish(ctx, bus.Message{
			Subject: d.subject(), ID: d.id, Body: d.body, Header: bus.Header{contract.HeaderFileID: d.id},
		})
		if !errors.Is(err, bus.ErrFull) {
			return err
		}
		refused.Add(1)
		if err := pause(ctx, fullPause); err != nil {
			return err
		}
	}
}

// emptied waits until the stages have acknowledged everything, and returns when that was
// seen, or when it was looked for last.
func (r *run) emptied(ctx context.Context) (time.Time, bool, error) {
	for began := time.Now(); ; {
		n, err := busy(ctx, r.Producer)
		now := time.Now()
		if err != nil || n == 0 || now.Sub(began) > r.Wait {
			return now, n == 0, err
		}
		if err := pause(ctx, emptyPoll); err != nil {
			return now, false, err
		}
	}
}

// pause waits for d, or until ctx ends and then returns why.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
