package stage

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/failpoint"
	"github.com/jobspy/millrace/shared/ledger"
)

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
	if r.Stage == contract.Ingest && !e.Owner.Same(owner(d)) {
		mine = false // another message with its file_id ended so
	}
	if err != nil || !mine || e.Stage != r.Stage {
		return "", err
	}
	return e.Reason, nil
}

// owner is d's message as the ledger knows it.
func owner(d *doc.Document) ledger.Owner {
	return ledger.Owner{Stream: d.Origin.Stream, Seq: d.Origin.Seq, Time: d.Origin.Time}
}

// entry is what the ledger is told of a document that it does not know.
func (r *Runner) entry(d *doc.Document, reason contract.Reason) ledger.Entry {
	m := &d.Metadata
	return ledger.Entry{
		SHA256: strings.TrimPrefix(m.Checksum, "sha256:"), Name: d.Name, Task: m.TaskType, Provider: m.Provider, CreatedAt: m.CreatedAt, Layout: d.Layout.String(),
		Owner: owner(d),
		Stage: r.Stage, Reason: reason,
	}
}

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
	if failpoint.Without(failpoint.Ledger) {
		claim, published = ledger.Won, false
	}
	if err != nil || (claim != ledger.Won && claim != ledger.Resumed) {
		return err
	}
	failpoint.Hit(r.Stage, failpoint.Taken)
	if !published {
		if err := r.publish(ctx, m); err != nil {
			return err
		}
	}
	failpoint.Hit(r.Stage, failpoint.Ended)
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
