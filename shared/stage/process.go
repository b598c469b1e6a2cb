package stage

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/slot"
	"github.com/jobspy/millrace/shared/store"
)

// suspect is the delivery count from which a message runs alone: it was delivered before
// and neither finished nor failed, so it may have taken its process down.
const suspect = 3

// The kinds of failed attempts, as HeaderFailures lists them.
const (
	failedError   = "error"
	failedTimeout = "timeout"
	failedPanic   = "panic"
)

// panicError is a panic of a handler.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// process brings one delivery to its end. s is the handler's slot; storing, publishing and
// acknowledging need none.
func (r *Runner) process(ctx context.Context, w *work, s *slot.Slot) {
	began := r.Deps.Clock()
	working := slot.With(ctx, s)
	d, outs, err := r.once(working, w)
	if fault.Of(err).Kind == fault.Unavailable && ctx.Err() == nil {
		r.gate.block("dependency", err)
		r.log.Warn().Err(err).Msg("a dependency is down, nothing new is taken")
		for pause := holdFirst; fault.Of(err).Kind == fault.Unavailable && ctx.Err() == nil; pause = min(2*pause, holdMost) {
			if sleep(ctx, jitter(pause)) == nil {
				d, outs, err = r.once(working, w)
			}
		}
		r.gate.release("dependency")
	}
	s.Release()
	r.settle(ctx, w, d, outs, err, began)
}

// once decodes a delivery and makes one attempt at it.
func (r *Runner) once(ctx context.Context, w *work) (*doc.Document, []Output, error) {
	d, err := r.decode(ctx, w.Message())
	if err != nil {
		return d, nil, err
	}
	outs, err := r.attempt(ctx, w, d)
	return d, outs, err
}

// decode reads a message. The document is never nil; with an error it holds what could be
// read, enough for a dead letter.
func (r *Runner) decode(ctx context.Context, m *bus.Stored) (*doc.Document, error) {
	d := doc.FromMessage(m)
	if !d.Lane.Valid() {
		d.Lane = contract.Low
	}
	if r.Stage == contract.Ingest {
		raw(d, m.Stream)
		return d, nil
	}
	if d.Timer != "" && d.Timer != contract.TimerJoin {
		return d, nil
	}
	if !doc.ValidID(d.Metadata.FileID) {
		d.Metadata.FileID = doc.NewID(d.Origin, doc.Sum(d.Body))
		return d, fault.New(contract.ReasonMalformed, "the message has no valid "+contract.HeaderFileID)
	}
	body, fileID := d.Body, d.Metadata.FileID
	if d.Object != "" {
		o, err := r.claimed(ctx, d.Object)
		if err != nil {
			// What travels beside the object is enough to say whose end this is.
			if e, bad := doc.Decode(body); bad == nil && e.Metadata.FileID == fileID {
				d.Envelope = e
			}
			return d, err
		}
		body = o.Body
	}
	e, err := doc.Decode(body)
	if err != nil {
		return d, fault.Permanently(contract.ReasonMalformed, err)
	}
	if e.Metadata.FileID != fileID {
		return d, fault.New(contract.ReasonMalformed, fmt.Sprintf("%s is %q but metadata.file_id is %q",
			contract.HeaderFileID, fileID, e.Metadata.FileID))
	}
	d.Envelope = e
	return d, r.layout(d)
}

// layout refuses a document whose layout cannot be read. One without comes from the release
// before, which kept all classes in the views of the environment.
func (r *Runner) layout(d *doc.Document) error {
	if !d.Layout.IsZero() {
		return nil
	}
	if _, err := doc.ParseLayout(d.Header[contract.HeaderLayout]); err != nil {
		return fault.Permanently(contract.ReasonMalformed, fmt.Errorf("read %s: %w", contract.HeaderLayout, err))
	}
	d.Layout = r.Config.layout()
	return nil
}

// raw forgets what a producer has no say in: headers that only stages write. What comes
// back by the retry stream was written by this stage.
func raw(d *doc.Document, stream string) {
	d.Timer, d.Source, d.Name, d.Lane = "", "", "", contract.Low // the handler chooses name and lane
	if !doc.ValidID(d.Metadata.FileID) {
		d.Metadata.FileID = ""
	}
	if stream == contract.StreamRaw {
		d.Attempt, d.Failures = 1, nil
		if d.Replay == 0 {
			d.Layout = doc.Layout{}
		}
		if d.Replay == 0 {
			d.Timeline = nil
		}
	}
}

// claimed loads the body that a message names instead of carrying it.
func (r *Runner) claimed(ctx context.Context, object string) (*store.Object, error) {
	bucket, key, _ := strings.Cut(object, "/")
	if bucket != contract.BucketProcessed || !strings.HasPrefix(key, contract.ClaimPrefix) {
		return nil, fault.New(contract.ReasonMalformed,
			fmt.Sprintf("%s is not under %s/%s", contract.HeaderObject, contract.BucketProcessed, contract.ClaimPrefix))
	}
	o, err := r.Deps.Store.Get(ctx, store.Ref{Bucket: bucket, Key: key})
	if errors.Is(err, store.ErrNotFound) {
		return nil, fault.Permanently(contract.ReasonMissingObject, err)
	}
	return o, err
}

// attempt calls the handler once: within its time, alone where the message is suspect, and
// with panics turned into errors.
func (r *Runner) attempt(ctx context.Context, w *work, d *doc.Document) (outs []Output, err error) {
	limit, lasting := r.limit(d)
	switch {
	case w.Count() >= suspect:
		if err := r.markAlone(ctx, w); err != nil {
			return nil, err
		}
		locked(ctx, r.Process.alone.Lock)
		defer r.Process.alone.Unlock()
	case !lasting: // else what is suspect, and all behind it, would wait as long
		locked(ctx, r.Process.alone.RLock)
		defer r.Process.alone.RUnlock()
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	defer func() {
		r.Metrics.handled(r.Stage, time.Since(began))
		if v := recover(); v != nil {
			r.log.Error().Str("file_id", d.Metadata.FileID).Bytes("stack", debug.Stack()).Msg("handler panicked")
			outs, err = nil, &panicError{value: v}
		}
	}()
	outs, err = r.Handler.Handle(limited, d)
	if err != nil && limited.Err() != nil && ctx.Err() == nil && fault.Of(err).Kind != fault.Permanent {
		err = fmt.Errorf("not done within %s: %w", limit, context.DeadlineExceeded)
	}
	return outs, err
}

// locked waits for a lock without keeping the slot meanwhile: whoever has the lock may have paused,
// and need one to go on.
func locked(ctx context.Context, lock func()) {
	defer slot.Pause(ctx)()
	lock()
}

// limit returns how long one attempt at d may take, and whether that is for d alone to say.
func (r *Runner) limit(d *doc.Document) (limit time.Duration, lasting bool) {
	if h, ok := r.Handler.(Lasting); ok && d.Timer != "" {
		if limit := h.Lasts(d); limit > 0 {
			return limit, true
		}
	}
	return r.Config.HandleTimeout, false
}

// settle is the failure table: it decides, in one place, what an attempt's end means.
func (r *Runner) settle(ctx context.Context, w *work, d *doc.Document, outs []Output, err error, began time.Time) {
	l := r.log.With().Str("file_id", d.Metadata.FileID).Int("attempt", d.Attempt).Logger()
	verdict := fault.Of(err)
	var end error
	switch {
	case err == nil:
		end = r.finish(ctx, w, d, outs, began)
	case ctx.Err() != nil: // stopping: no failure of the document
		end = context.Cause(ctx)
	case verdict.Kind == fault.Permanent:
		l.Error().Err(err).Str("reason", string(verdict.Reason)).Msg("failed for good")
		end = r.giveUp(ctx, w, d, verdict.Reason, err)
	case verdict.Kind == fault.Waiting:
		end = r.again(ctx, w, d, max(verdict.After, time.Millisecond))
	default:
		d.Failures = append(d.Failures, failureKind(err))
		if d.Attempt >= r.Config.Attempts {
			reason := spent(d.Failures, verdict.Reason)
			l.Error().Err(err).Str("reason", string(reason)).Msg("all attempts failed")
			end = r.giveUp(ctx, w, d, reason, err)
			break
		}
		l.Warn().Err(err).Msg("attempt failed")
		delay := max(jitter(r.Config.RetryFirst<<(d.Attempt-1)), verdict.After)
		d.Attempt++
		r.Metrics.outcome(r.Stage, outcomeRetried, "")
		end = r.again(ctx, w, d, delay)
	}
	switch {
	case end == nil: // settled, or about to be
	case errors.Is(end, bus.ErrTooLarge):
		l.Error().Err(end).Msg("an output is too large")
		if r.giveUp(ctx, w, d, contract.ReasonOversize, end) != nil {
			w.giveBack()
		}
	case ctx.Err() == nil && err == nil: // its outputs can be written nowhere
		l.Error().Err(end).Msg("an output cannot be published")
		if r.giveUp(ctx, w, d, contract.ReasonMalformed, end) != nil {
			w.giveBack()
		}
	default:
		l.Debug().Err(end).Msg("handed back")
		w.giveBack()
	}
}

// failureKind names what kind of failure err is.
func failureKind(err error) string {
	if _, ok := errors.AsType[*panicError](err); ok {
		return failedPanic
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return failedTimeout
	}
	return failedError
}

// spent returns the reason of a dead letter whose attempts all failed.
func spent(failures []string, named contract.Reason) contract.Reason {
	same := true
	for _, f := range failures {
		same = same && f == failures[0]
	}
	switch {
	case same && failures[0] == failedTimeout:
		return contract.ReasonTimeout
	case same && failures[0] == failedPanic:
		return contract.ReasonPanic
	case named != "":
		return named
	default:
		return contract.ReasonExhausted
	}
}
