package stage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/store"
)

// maxError is the longest error text in a header, in bytes.
const maxError = 1024

// aloneTTL is how long it is remembered that a message ran alone. It is longer than the
// broker needs to deliver it as often as it ever will.
const aloneTTL = time.Hour

// again puts the work back as a schedule, due after delay, and then acknowledges the
// message it came by.
func (r *Runner) again(ctx context.Context, w *work, d *doc.Document, delay time.Duration) error {
	if err := r.store(ctx, d.Objects); err != nil {
		return err
	}
	if err := r.reschedule(ctx, d, delay); err != nil {
		return err
	}
	return r.ack(ctx, w)
}

// reschedule stores the schedule that brings d back as it was received.
func (r *Runner) reschedule(ctx context.Context, d *doc.Document, delay time.Duration) error {
	h := received(d)
	d.OriginHeader(h)
	h[contract.HeaderAttempt] = strconv.Itoa(d.Attempt)
	h[contract.HeaderLane] = string(d.Lane)
	if len(d.Failures) > 0 {
		h[contract.HeaderFailures] = strings.Join(d.Failures, ",")
	}
	id := d.WorkID()
	if r.Stage == contract.Ingest || (d.Metadata.FileID == "" && d.Timer == "") {
		// Before ingest two messages may have one file_id.
		id = doc.NewID(d.Origin, doc.Sum(d.Body))
	}
	m := bus.Message{Subject: contract.RetrySubject(r.Stage, id), Header: h, Body: d.Body}
	return r.schedule(ctx, m, r.Deps.Clock().Add(delay), contract.DueSubject(r.Stage, d.Lane))
}

// received returns the headers of ours with which d came. It is an allow-list: broker
// headers and anything else a producer set stay behind.
func received(d *doc.Document) bus.Header {
	h := bus.Header{}
	for _, name := range contract.Headers() {
		if value := d.Header[name]; value != "" {
			h[name] = value
		}
	}
	return h
}

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
	if err := r.deadLetter(ctx, d, reason, cause); err != nil {
		return err
	}
	r.Metrics.outcome(r.Stage, outcomeDead, reason)
	return r.hold(ctx, "acknowledgement", func(ctx context.Context) error {
		return w.Term(ctx, string(reason))
	}, nil)
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
		taken = err == nil && !e.Owner.Same(ledger.Owner{Stream: d.Origin.Stream, Seq: d.Origin.Seq, Time: d.Origin.Time})
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

// aloneKey names the mark of a message that ran alone.
func aloneKey(stream string, seq uint64) string { return fmt.Sprintf("alone.%s.%d", stream, seq) }

// markAlone writes down that a message runs alone, before it does.
func (r *Runner) markAlone(ctx context.Context, w *work) error {
	kv, err := r.Deps.Bus.KV(ctx, contract.KVCache)
	if err != nil {
		return err
	}
	m := w.Message()
	_, err = kv.Put(ctx, aloneKey(m.Stream, m.Seq), []byte(r.Stage), aloneTTL)
	return err
}

// advisory is what the broker says of a message that it will not deliver any more.
type advisory struct {
	Stream string `json:"stream"`
	Seq    uint64 `json:"stream_seq"`
}

// sweep takes care of a message that was delivered too often: one that ran alone crashed
// its process each time and is a dead letter, any other begins afresh.
func (r *Runner) sweep(ctx context.Context, w *work) {
	err := r.hold(ctx, "advisory", func(ctx context.Context) error { return r.sweepOnce(ctx, w) },
		func(err error) bool { return fault.Of(err).Kind == fault.Permanent })
	if err == nil {
		err = r.ack(ctx, w)
	}
	if err != nil {
		r.log.Debug().Err(err).Msg("advisory handed back")
		w.giveBack()
		return
	}
	w.leave()
}

func (r *Runner) sweepOnce(ctx context.Context, w *work) error {
	var a advisory
	if err := codec.Unmarshal(w.Message().Body, &a); err != nil {
		r.log.Error().Err(err).Msg("the broker's advisory cannot be read")
		return nil
	}
	m, err := r.Deps.Bus.Get(ctx, a.Stream, a.Seq)
	if errors.Is(err, bus.ErrNotFound) {
		return nil // it came to its end after all
	}
	if err != nil {
		return err
	}
	kv, err := r.Deps.Bus.KV(ctx, contract.KVCache)
	if err != nil {
		return err
	}
	d, unread := r.decode(ctx, m)
	if fault.Of(unread).Kind == fault.Unavailable {
		return unread
	}
	_, err = kv.Get(ctx, aloneKey(a.Stream, a.Seq))
	switch {
	case errors.Is(err, bus.ErrNotFound):
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
