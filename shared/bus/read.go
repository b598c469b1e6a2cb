package bus

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/fault"
)

// getRequest asks for stored messages, one or a batch.
type getRequest struct {
	Seq       uint64    `json:"seq,omitzero"`
	LastFor   string    `json:"last_by_subj,omitzero"`
	NextFor   string    `json:"next_by_subj,omitzero"`
	Batch     int       `json:"batch,omitzero"`
	MaxBytes  int       `json:"max_bytes,omitzero"`
	StartTime time.Time `json:"start_time,omitzero"`
}

// api asks the broker's management interface and reads its answer into v. A stream or
// consumer that does not exist is an error of this package.
func (j *JetStream) api(ctx context.Context, verb string, req, v any) error {
	var body []byte
	if req != nil {
		var err error
		if body, err = codec.Marshal(req); err != nil {
			return fmt.Errorf("write the request: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	reply, err := j.ask(ctx, &nats.Msg{Subject: "$JS.API." + verb, Data: body})
	if err != nil {
		return fault.Down(err)
	}
	var failed struct {
		Error *apiError `json:"error"`
	}
	if err := codec.Unmarshal(reply.Data, &failed); err != nil {
		return fault.Down(fmt.Errorf("read the broker's answer: %w", err))
	}
	j.answered(failed.Error)
	if failed.Error != nil {
		return apiFault(failed.Error)
	}
	if err := codec.Unmarshal(reply.Data, v); err != nil {
		return fault.Down(fmt.Errorf("read the broker's answer: %w", err))
	}
	return nil
}

// apiFault classifies a refusal: what callers branch on for good stays as it is; what may
// be there later, or could not be done now, is unavailable.
func apiFault(e *apiError) error {
	if errors.Is(e, ErrNotFound) || errors.Is(e, ErrRevision) || errors.Is(e, ErrTooLarge) {
		return e
	}
	return fault.Down(e)
}

// get reads one message by the management interface, which tells a message that looks like a
// control message from one.
func (j *JetStream) get(ctx context.Context, stream string, req getRequest) (*Stored, error) {
	var answer struct {
		Message struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	if err := j.api(ctx, "STREAM.MSG.GET."+stream, req, &answer); err != nil {
		return nil, err
	}
	m := &answer.Message
	s := &Stored{Stream: stream, Seq: m.Seq, Time: m.Time.UTC(), Subject: m.Subject, Body: m.Data}
	if len(m.Header) > 0 {
		// Headers that cannot be read were not written by us; the rest is still of use.
		h, _ := nats.DecodeHeadersMsg(m.Header)
		s.Header = flatten(h)
	}
	return s, nil
}

// Get implements Bus.
func (j *JetStream) Get(ctx context.Context, stream string, seq uint64) (*Stored, error) {
	if seq == 0 {
		return nil, fmt.Errorf("read message 0 of %q: %w", stream, ErrNotFound)
	}
	s, err := j.get(ctx, stream, getRequest{Seq: seq})
	if err != nil {
		return nil, fmt.Errorf("read message %d of %q: %w", seq, stream, err)
	}
	return s, nil
}

// Last implements Bus.
func (j *JetStream) Last(ctx context.Context, stream, subject string) (*Stored, error) {
	s, err := j.get(ctx, stream, getRequest{LastFor: subject})
	if err != nil {
		return nil, fmt.Errorf("read the last message on %q of %q: %w", subject, stream, err)
	}
	return s, nil
}

// Scan implements Bus. The end is taken when the iteration begins.
func (j *JetStream) Scan(ctx context.Context, stream, filter string, from uint64) iter.Seq2[*Stored, error] {
	if filter == "" {
		filter = ">"
	}
	return func(yield func(*Stored, error) bool) {
		fail := func(err error) { yield(nil, fmt.Errorf("scan %q: %w", stream, err)) }
		info, err := j.streamInfo(ctx, stream)
		if err != nil {
			fail(err)
			return
		}
		b, err := j.openBatches(stream, filter)
		if err != nil {
			fail(err)
			return
		}
		defer b.close()
		next, last := max(from, info.State.FirstSeq, 1), info.State.LastSeq
		for next <= last {
			found, more, err := b.read(ctx, next)
			if err == nil && !more && info.Config.Replicas > 1 {
				found, more, err = b.behind(ctx, found, next)
			}
			if err != nil {
				fail(err)
				return
			}
			for _, m := range found {
				if m.Seq > last || !yield(m, nil) {
					return
				}
				next = m.Seq + 1
			}
			if !more {
				return
			}
		}
	}
}

// SeqAt implements Bus.
func (j *JetStream) SeqAt(ctx context.Context, stream string, t time.Time) (uint64, error) {
	m, err := j.get(ctx, stream, getRequest{StartTime: t.UTC(), NextFor: ">"})
	if err == nil {
		return m.Seq, nil
	}
	var info streamInfo
	if errors.Is(err, ErrNotFound) {
		info, err = j.streamInfo(ctx, stream)
	}
	if err != nil {
		return 0, fmt.Errorf("find %s in %q: %w", t.UTC().Format(time.RFC3339), stream, err)
	}
	return info.State.LastSeq + 1, nil
}

// Delete implements Bus. The broker overwrites the message on disk.
func (j *JetStream) Delete(ctx context.Context, stream string, seq uint64) error {
	var answer struct{}
	err := j.api(ctx, "STREAM.MSG.DELETE."+stream, getRequest{Seq: seq}, &answer)
	if e, ok := errors.AsType[*apiError](err); ok && e.ErrCode == codeDeleteFailed {
		// The broker gives one code for all; whether the message is there tells them apart.
		if _, missing := j.get(ctx, stream, getRequest{Seq: max(seq, 1)}); missing != nil {
			err = missing
		}
	}
	if err != nil {
		return fmt.Errorf("delete message %d of %q: %w", seq, stream, err)
	}
	return nil
}
