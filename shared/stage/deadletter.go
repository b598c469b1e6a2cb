package stage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/failpoint"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/store"
)

// maxError is the longest error text in a header, in bytes.
const maxError = 1024

// giveUp ends work that will not succeed: by what the handler says, else as dead letter.
func (r *Runner) giveUp(ctx context.Context, w *work, d *doc.Document, reason contract.Reason, cause error) error {
	if h, ok := r.Handler.(GaveUp); ok && d.Timer == "" {
		if outs := h.GaveUp(d, reason, cause); len(outs) > 0 {
			return r.finish(ctx, w, d, outs, r.Deps.Clock())
		}
	}
	if d.Timer != "" && d.Timer != contract.TimerJoin {
		// A timer is not a document and comes again by itself.
		r.Metrics.outcome(r.Stage, outcomeFailed, reason)
		return r.ack(ctx, w)
	}
	if failpoint.Without(failpoint.AnswerFirst) {
		_ = w.Term(ctx, string(reason)) // a guard that is off
	}
	if err := r.deadLetter(ctx, d, reason, cause); err != nil {
		return err
	}
	failpoint.Hit(r.Stage, failpoint.LetterOut)
	r.Metrics.outcome(r.Stage, outcomeDead, reason)
	err := r.hold(ctx, "acknowledgement", func(ctx context.Context) error {
		return w.Term(ctx, string(reason))
	}, nil)
	if err == nil {
		w.leave()
	}
	return err
}

// deadLetter stores and publishes a dead letter, unless the document ended otherwise.
func (r *Runner) deadLetter(ctx context.Context, d *doc.Document, reason contract.Reason, cause error) error {
	m := &d.Metadata
	sha := doc.Sum(d.Body)
	if err := r.own(ctx, d, sha); err != nil {
		return err
	}
	if m.TaskType == "" {
		m.TaskType = contract.Unknown
	}
	if m.Provider == "" {
		m.Provider = contract.Unknown
	}
	if m.CreatedAt.IsZero() {
		m.CreatedAt = d.Origin.Time.UTC()
	}
	if d.Name == "" {
		d.Name = doc.FileName(m.CreatedAt, m.TaskType, m.Provider, m.SessionID, m.FileID)
	}
	at := r.Deps.Clock().UTC()
	h := received(d)
	maps.Copy(h, d.Headers(r.Stage))
	d.OriginHeader(h)
	h[contract.HeaderReason] = string(reason)
	h[contract.HeaderError] = headerText(cause.Error())
	h[contract.HeaderFailedAt] = at.Format(time.RFC3339Nano)
	if m.ProducerFileID != "" {
		h[contract.HeaderProducerFileID] = headerText(m.ProducerFileID)
	}
	letter, err := r.letterObject(d, reason, h, at)
	if err != nil {
		return err
	}
	if err := r.store(ctx, append(d.Objects, letter)); err != nil {
		return err
	}
	failpoint.Hit(r.Stage, failpoint.LetterStored)
	entry := r.entry(d, reason)
	msg := bus.Message{
		Subject: contract.DLQSubject(r.Stage, reason), Header: h, Body: d.Body,
		ID: r.messageID(d, 0) + ":dlq",
	}
	err = r.end(ctx, d, ledger.Dead, entry, contract.StreamDLQ, msg)
	if errors.Is(err, bus.ErrTooLarge) {
		if msg, err = r.shrink(ctx, d, msg); err != nil {
			return err
		}
		err = r.end(ctx, d, ledger.Dead, entry, contract.StreamDLQ, msg)
	}
	return err
}

// own gives a dead letter an id of its own where it has none, or at ingest where its file_id
// is that of another message: it failed before the ledger was asked.
func (r *Runner) own(ctx context.Context, d *doc.Document, sha string) error {
	m := &d.Metadata
	if m.FileID == "" {
		m.FileID = doc.NewID(d.Origin, sha)
		return nil
	}
	if r.Stage != contract.Ingest || d.Replay > 0 {
		return nil
	}
	taken := false
	err := r.hold(ctx, "ledger", func(ctx context.Context) error {
		e, err := r.Deps.Ledger.Read(ctx, m.FileID)
		if errors.Is(err, bus.ErrNotFound) {
			return nil
		}
		taken = err == nil && !e.Owner.Same(owner(d))
		return err
	}, nil)
	if err == nil && taken {
		m.ProducerFileID, m.FileID, d.Name = m.FileID, doc.NewID(d.Origin, sha), ""
	}
	return err
}

// shrink moves the body of a dead letter that fits no message, because of the headers that
// were added, to where its stage looks for it on a replay.
func (r *Runner) shrink(ctx context.Context, d *doc.Document, m bus.Message) (bus.Message, error) {
	ref := store.Ref{Bucket: contract.BucketRaw, Key: contract.InboxPrefix + d.Metadata.FileID}
	if r.Stage != contract.Ingest {
		ref = store.Ref{
			Bucket: contract.BucketProcessed,
			Key:    contract.ClaimPrefix + d.Metadata.FileID + "/" + fmt.Sprintf("%s-%s-dlq.json", d.WorkID(), r.Stage),
		}
	}
	if err := r.store(ctx, []store.Object{{Ref: ref, Body: d.Body}}); err != nil {
		return m, err
	}
	m.Header[contract.HeaderObject] = ref.String()
	body, err := codec.Marshal(doc.Envelope{Metadata: d.Metadata})
	m.Body = body
	return m, err
}

// letter is what stands in the bucket of dead letters.
type letter struct {
	Metadata doc.Metadata    `json:"metadata"`
	Stage    contract.Stage  `json:"stage"`
	Reason   contract.Reason `json:"reason"`
	Error    string          `json:"error"`
	FailedAt time.Time       `json:"failed_at"`
	Headers  bus.Header      `json:"headers"`
	Body     string          `json:"body,omitzero"`        // as received, where it is text
	Base64   []byte          `json:"body_base64,omitzero"` // as received, where it is none
}

func (r *Runner) letterObject(d *doc.Document, reason contract.Reason, h bus.Header, at time.Time) (store.Object, error) {
	l := letter{
		Metadata: d.Metadata, Stage: r.Stage, Reason: reason, Error: h[contract.HeaderError], FailedAt: at, Headers: h,
	}
	l.Metadata.ProcessingStatus = contract.StatusFailed
	if codec.Text(d.Body) {
		l.Body = string(d.Body)
	} else {
		l.Base64 = d.Body
	}
	body, err := codec.Marshal(l)
	key := fmt.Sprintf("%s/%s/%s/%s", r.Stage, reason, doc.Date(at), d.Name)
	return store.Object{Ref: store.Ref{Bucket: contract.BucketDLQ, Key: key}, Body: body}, err
}

// headerText makes s fit a header: one line of printable text, bounded.
func headerText(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == '\uFFFD' {
			return ' '
		}
		return c
	}, s)
	if len(s) > maxError {
		s = strings.ToValidUTF8(s[:maxError], "") + "…"
	}
	return strings.TrimSpace(s)
}
