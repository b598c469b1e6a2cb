package stage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/failpoint"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/store"
)

// finish stores and publishes what a handler made, at the same time but for objects that have
// to be there first, and lets the input be acknowledged when both are confirmed.
func (r *Runner) finish(ctx context.Context, w *work, d *doc.Document, outs []Output, began time.Time) error {
	step := doc.Step{Stage: r.Stage, At: r.Deps.Clock().UTC(), Attempt: d.Attempt}
	step.MS = step.At.Sub(began).Milliseconds()
	objects, first := d.Objects, []store.Object(nil)
	for _, o := range outs {
		if o.ObjectsFirst {
			first = append(first, o.Objects...)
		} else {
			objects = append(objects, o.Objects...)
		}
	}
	if w.Count() > 1 {
		// Before it was delivered again it may have been given up, which somebody may know of.
		if reason, err := r.given(ctx, d); err != nil || reason != "" {
			if err != nil {
				return err
			}
			return r.giveUp(ctx, w, d, reason, errGivenUp)
		}
	}
	if err := r.store(ctx, first); err != nil {
		return err
	}
	if failpoint.Without(failpoint.AckLast) {
		_ = w.Ack(ctx) // a guard that is off
		failpoint.Hit(r.Stage, failpoint.Stored)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := r.store(gctx, objects)
		failpoint.Hit(r.Stage, failpoint.Stored)
		return err
	})
	g.Go(func() error {
		err := r.publishAll(gctx, d, outs, step)
		failpoint.Hit(r.Stage, failpoint.Published)
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	failpoint.Hit(r.Stage, failpoint.Unconfirmed)
	if err := r.after(ctx, d, outs); err != nil {
		return err
	}
	r.acks.add(w)
	outcome := outcomeOK
	if len(outs) == 0 {
		outcome = outcomeNone
	}
	r.Metrics.outcome(r.Stage, outcome, "")
	r.log.Debug().Str("file_id", d.Metadata.FileID).Int("outputs", len(outs)).Msg("done")
	return nil
}

// after does what outputs leave to be done when they are out. Error: ctx is over.
func (r *Runner) after(ctx context.Context, d *doc.Document, outs []Output) error {
	for _, o := range outs {
		if o.After == nil {
			continue
		}
		permanent := func(err error) bool { return fault.Of(err).Kind == fault.Permanent }
		err := r.hold(ctx, "afterwards", o.After, permanent)
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			r.log.Error().Err(err).Str("file_id", d.Metadata.FileID).Msg("what was to be done after publishing failed for good")
		}
	}
	return nil
}

// ack acknowledges at once and waits for the confirmation. While the broker does not answer the
// message stays in hand; if it is delivered again all the same, that is harmless.
func (r *Runner) ack(ctx context.Context, w *work) error {
	err := r.hold(ctx, "acknowledgement", w.Ack, nil)
	if err == nil {
		w.leave()
	}
	return err
}

// store stores objects, those that failed again and again until all are there.
func (r *Runner) store(ctx context.Context, objects []store.Object) error {
	if len(objects) == 0 {
		return nil
	}
	return r.hold(ctx, "store", func(ctx context.Context) error {
		var failed []store.Object
		var first error
		for i, err := range r.Deps.Store.Put(ctx, objects...) {
			if err == nil || errors.Is(err, store.ErrExists) {
				continue
			}
			failed = append(failed, objects[i])
			if first == nil {
				first = fmt.Errorf("store %s: %w", objects[i].Ref, err)
			}
		}
		objects = failed
		return first
	}, nil)
}

// publishAll publishes the outputs in their order, each confirmed before the next.
func (r *Runner) publishAll(ctx context.Context, d *doc.Document, outs []Output, step doc.Step) error {
	for i := range outs {
		o := &outs[i]
		var err error
		switch {
		case o.Terminal:
			err = r.terminal(ctx, d, o, i)
		case o.Subject != "":
			id := o.ID
			if id == "" {
				id = r.messageID(d, i)
			}
			send := r.publish
			if isAnswer(o.Subject) {
				send = r.answer
			}
			err = send(ctx, bus.Message{Subject: o.Subject, ID: id, Header: d.Next().Headers(r.Stage), Body: o.Body})
		default:
			o.Doc.Timeline = append(append([]doc.Step(nil), d.Timeline...), step)
			err = r.forward(ctx, d, o, i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// forward publishes a document for another stage.
func (r *Runner) forward(ctx context.Context, in *doc.Document, o *Output, index int) error {
	d := o.Doc
	if d.Trace == "" {
		d.Trace = in.Trace
	}
	d.Trace = childTrace(d, r.Stage)
	body, err := d.Encode()
	if err != nil {
		return err
	}
	if len(body) > r.Config.ClaimCheckBytes {
		if body, err = r.claim(ctx, d, body, fmt.Sprintf("%s-%s-%d-r%d.json", d.WorkID(), r.Stage, index, d.Replay)); err != nil {
			return err
		}
	}
	if !o.At.IsZero() {
		m := bus.Message{Subject: contract.RetrySubject(o.To, d.WorkID(), d.Replay), Header: d.Headers(r.Stage), Body: body}
		origin := doc.Document{Origin: doc.Origin{
			Subject: contract.StageSubject(o.To, d.Lane, d.Metadata.TaskType, d.Metadata.Provider),
			Stream:  in.Origin.Stream, Seq: in.Origin.Seq, Time: in.Origin.Time,
		}}
		origin.OriginHeader(m.Header)
		return r.schedule(ctx, m, o.At, contract.DueSubject(o.To, d.Lane))
	}
	last := d.Metadata.Provider
	if o.To == contract.Scrape {
		last = d.Source
	}
	return r.publish(ctx, bus.Message{
		Subject: contract.StageSubject(o.To, d.Lane, d.Metadata.TaskType, last),
		ID:      fmt.Sprintf("%s:%s:%d:r%d", d.WorkID(), r.Stage, index, d.Replay),
		Header:  d.Headers(r.Stage), Body: body,
	})
}

// claim stores a body that is too large to travel and returns what travels instead: the
// metadata and the routing, and in d.Object the object's name. The object is there before it
// is named.
func (r *Runner) claim(ctx context.Context, d *doc.Document, body []byte, name string) ([]byte, error) {
	ref := store.Ref{Bucket: contract.BucketProcessed, Key: contract.ClaimPrefix + d.Metadata.FileID + "/" + name}
	if err := r.store(ctx, []store.Object{{Ref: ref, Body: body}}); err != nil {
		return nil, err
	}
	d.Object = ref.String()
	small := doc.Envelope{Metadata: d.Metadata, Routing: d.Routing}
	return small.Encode()
}

// publish publishes one message and repeats it, under the same id, until it is confirmed.
func (r *Runner) publish(ctx context.Context, m bus.Message) error {
	if failpoint.Without(failpoint.MessageID) {
		m.ID = ""
	}
	return r.hold(ctx, m.Subject, func(ctx context.Context) error {
		_, err := r.Deps.Bus.Publish(ctx, m)
		return err
	}, final)
}

// schedule stores a message for later, until that is confirmed.
func (r *Runner) schedule(ctx context.Context, m bus.Message, at time.Time, target string) error {
	return r.hold(ctx, contract.StreamRetry, func(ctx context.Context) error {
		return r.Deps.Bus.Schedule(ctx, m, at, target)
	}, final)
}

// final says whether a publish can never succeed: whatever may go away has the verdict that
// the broker is down.
func final(err error) bool { return fault.Of(err).Kind != fault.Unavailable }
