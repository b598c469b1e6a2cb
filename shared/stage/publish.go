package stage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/store"
)

// finish stores and publishes what a handler made, at the same time, and acknowledges the
// input when both are confirmed.
func (r *Runner) finish(ctx context.Context, w *work, d *doc.Document, outs []Output, began time.Time) error {
	step := doc.Step{Stage: r.Stage, At: r.Deps.Clock().UTC(), Attempt: d.Attempt}
	step.MS = step.At.Sub(began).Milliseconds()
	objects := d.Objects
	for _, o := range outs {
		objects = append(objects, o.Objects...)
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
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.store(gctx, objects) })
	g.Go(func() error { return r.publishAll(gctx, d, outs, step) })
	if err := g.Wait(); err != nil {
		return err
	}
	if err := r.ack(ctx, w); err != nil {
		return err
	}
	outcome := outcomeOK
	if len(outs) == 0 {
		outcome = outcomeNone
	}
	r.Metrics.outcome(r.Stage, outcome, "")
	r.log.Debug().Str("file_id", d.Metadata.FileID).Int("outputs", len(outs)).Msg("done")
	return nil
}

// errGivenUp is the cause on a dead letter whose process ended before it was published.
var errGivenUp = errors.New("it was given up, and the process ended before that was published")

// given returns the reason with which this very work took the terminal state as dead before,
// empty where it did not.
func (r *Runner) given(ctx context.Context, d *doc.Document) (contract.Reason, error) {
	if d.Metadata.FileID == "" {
		return "", nil
	}
	var e ledger.Entry
	err := r.hold(ctx, "ledger", func(ctx context.Context) (err error) {
		e, err = r.Deps.Ledger.Read(ctx, d.Metadata.FileID)
		if errors.Is(err, bus.ErrNotFound) {
			return nil
		}
		return err
	}, nil)
	mine := e.Holder == ledger.Holder{WorkID: d.WorkID(), Replay: d.Replay, Kind: ledger.Dead}
	if err != nil || !mine || e.Stage != r.Stage {
		return "", err
	}
	return e.Reason, nil
}

// entry is what the ledger is told of a document that it does not know.
func (r *Runner) entry(d *doc.Document, reason contract.Reason) ledger.Entry {
	m := &d.Metadata
	return ledger.Entry{
		SHA256: strings.TrimPrefix(m.Checksum, "sha256:"), Name: d.Name, Task: m.TaskType, Provider: m.Provider, CreatedAt: m.CreatedAt,
		Owner: ledger.Owner{Stream: d.Origin.Stream, Seq: d.Origin.Seq, Time: d.Origin.Time},
		Stage: r.Stage, Reason: reason,
	}
}

// ack acknowledges and waits for the confirmation. While the broker does not answer the
// message stays in hand; if it is delivered again all the same, that is harmless.
func (r *Runner) ack(ctx context.Context, w *work) error {
	return r.hold(ctx, "acknowledgement", w.Ack, nil)
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
			m := bus.Message{Subject: o.Subject, ID: r.messageID(d, i), Header: d.Next().Headers(r.Stage), Body: o.Body}
			err = r.publish(ctx, m)
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
		m := bus.Message{Subject: contract.RetrySubject(o.To, d.WorkID()), Header: d.Headers(r.Stage), Body: body}
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
// metadata, and in d.Object the object's name. The object is there before it is named.
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

// terminal publishes a terminal record if the document's terminal state is ours to take.
func (r *Runner) terminal(ctx context.Context, d *doc.Document, o *Output, index int) error {
	entry := r.entry(d, "")
	m := bus.Message{Subject: o.Subject, ID: r.messageID(d, index), Header: d.Next().Headers(r.Stage), Body: o.Body}
	return r.end(ctx, d, ledger.Completed, entry, contract.StreamCompleted, m)
}

// end takes the terminal state of d, publishes m and marks the state as done. Whoever lost
// the state publishes nothing. Whoever had it before a crash looks whether m lies in stream
// already: the broker remembers message ids for some minutes only.
func (r *Runner) end(ctx context.Context, d *doc.Document, kind ledger.Kind, entry ledger.Entry, stream string, m bus.Message) error {
	fileID := d.Metadata.FileID
	holder := ledger.Holder{WorkID: d.WorkID(), Replay: d.Replay, Kind: kind}
	claim, published := ledger.Lost, false
	err := r.hold(ctx, "ledger", func(ctx context.Context) error {
		c, at, err := r.Deps.Ledger.Take(ctx, fileID, holder, entry)
		if err == nil && c == ledger.Resumed {
			published, err = r.published(ctx, stream, m, at)
		}
		if err == nil && c == ledger.Turned {
			c, err = r.turn(ctx, fileID, holder, entry, m, at)
		}
		claim = c
		return err
	}, nil)
	if err != nil || (claim != ledger.Won && claim != ledger.Resumed) {
		return err
	}
	if !published {
		if err := r.publish(ctx, m); err != nil {
			return err
		}
	}
	return r.hold(ctx, "ledger", func(ctx context.Context) error {
		return r.Deps.Ledger.Finish(ctx, fileID, holder)
	}, nil)
}

// turn takes back the other kind of end that this work took before a crash, unless that was
// published: then it stands.
func (r *Runner) turn(ctx context.Context, fileID string, h ledger.Holder, e ledger.Entry, m bus.Message, at time.Time) (ledger.Claim, error) {
	stream, other := contract.StreamDLQ, h
	other.Kind = ledger.Dead
	if h.Kind == ledger.Dead {
		stream, other.Kind = contract.StreamCompleted, ledger.Completed
	}
	published, err := r.published(ctx, stream, m, at)
	switch {
	case err != nil:
		return ledger.Lost, err
	case published:
		return ledger.Lost, r.Deps.Ledger.Finish(ctx, fileID, other)
	default:
		return ledger.Won, r.Deps.Ledger.Turn(ctx, fileID, h, e)
	}
}

// clockSkew is how far the clocks of broker and stages may be apart.
const clockSkew = time.Minute

// published reports whether an end like m, of the same document and replay count, was stored
// in a stream since a time.
func (r *Runner) published(ctx context.Context, stream string, m bus.Message, since time.Time) (bool, error) {
	from, err := r.Deps.Bus.SeqAt(ctx, stream, since.Add(-clockSkew))
	if err != nil {
		return false, err
	}
	id, replay := m.Header[contract.HeaderFileID], m.Header[contract.HeaderReplayCount]
	for found, err := range r.Deps.Bus.Scan(ctx, stream, "", from) {
		if err != nil {
			return false, err
		}
		if found.Header[contract.HeaderFileID] == id && found.Header[contract.HeaderReplayCount] == replay {
			return true, nil
		}
	}
	return false, nil
}
