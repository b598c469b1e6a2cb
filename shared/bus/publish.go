package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/slot"
)

// The error codes of the broker that callers can tell apart.
const (
	codeAccountFull         = 10002
	codeNoQuorum            = 10008 // too few of the servers that keep it can be reached
	codeConsumerNotFound    = 10014
	codeInsufficient        = 10023
	codeNoMemory            = 10028
	codeMessageNotFound     = 10037
	codeSequenceNotFound    = 10043
	codeNoStorage           = 10047
	codeTooLarge            = 10054
	codeDeleteFailed        = 10057
	codeStreamNotFound      = 10059
	codeWrongRevision       = 10071
	codeStoreFailed         = 10077 // full, or the disk failed
	codeConsumerNotOnStream = 10149
	codeInProcess           = 10158 // a message with this id was sent before and is not stored yet
	codeNoBatches           = 10174 // the stream takes no atomic batches
	codeWrongRevisionRaft   = 10164
)

// apiError is what the broker says where it refuses.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string {
	return fmt.Sprintf("%s (%d)", e.Description, e.ErrCode)
}

// Is lets errors.Is tell what callers may branch on.
func (e *apiError) Is(target error) bool {
	switch e.ErrCode {
	case codeStoreFailed, codeInsufficient, codeNoMemory, codeNoStorage, codeAccountFull:
		return target == ErrFull
	case codeTooLarge:
		return target == ErrTooLarge
	case codeStreamNotFound:
		return target == ErrNoStream
	case codeConsumerNotFound, codeConsumerNotOnStream:
		return target == ErrNoConsumer
	case codeMessageNotFound, codeSequenceNotFound:
		return target == ErrNotFound
	case codeWrongRevision, codeWrongRevisionRaft:
		return target == ErrRevision
	default:
		return false
	}
}

// pubAck is the broker's answer to a publish.
type pubAck struct {
	Error     *apiError `json:"error"`
	Stream    string    `json:"stream"`
	Seq       uint64    `json:"seq"`
	Duplicate bool      `json:"duplicate"`
}

// Publish implements Bus.
func (j *JetStream) Publish(ctx context.Context, m Message) (Receipt, error) {
	if err := checkMessage(m); err != nil {
		return Receipt{}, fmt.Errorf("publish to %q: %w", m.Subject, err)
	}
	h := expand(m.Header, 1)
	if m.ID != "" {
		h[headerMsgID] = []string{m.ID}
	}
	return j.send(ctx, &nats.Msg{Subject: m.Subject, Header: h, Data: m.Body})
}

// Schedule implements Bus.
func (j *JetStream) Schedule(ctx context.Context, m Message, at time.Time, target string) error {
	// To the nanosecond: a time cut to seconds would come up to one second too early.
	return j.schedule(ctx, m, "@at "+at.UTC().Format(time.RFC3339Nano), target)
}

// Every implements Bus.
func (j *JetStream) Every(ctx context.Context, m Message, interval time.Duration, target string) error {
	if interval < minInterval {
		return fmt.Errorf("schedule on %q: interval %s is under %s", m.Subject, interval, minInterval)
	}
	return j.schedule(ctx, m, "@every "+interval.String(), target)
}

// minInterval is the shortest interval of Every.
const minInterval = time.Second

func (j *JetStream) schedule(ctx context.Context, m Message, when, target string) error {
	if err := checkSchedule(m, target); err != nil {
		return err
	}
	h := expand(m.Header, 2)
	h[headerSchedule] = []string{when}
	h[headerScheduleTarget] = []string{target}
	_, err := j.send(ctx, &nats.Msg{Subject: m.Subject, Header: h, Data: m.Body})
	return err
}

func checkSchedule(m Message, target string) error {
	err := errors.Join(checkMessage(m), checkSubject(target))
	if m.ID != "" {
		err = errors.Join(err, errors.New("a schedule has no id: its subject makes it unique"))
	}
	if err != nil {
		return fmt.Errorf("schedule on %q: %w", m.Subject, err)
	}
	return nil
}

// send publishes and waits for the acknowledgement. It alone says success, and only when
// the broker said so.
func (j *JetStream) send(ctx context.Context, m *nats.Msg) (Receipt, error) {
	ack, err := j.sendRaw(ctx, m)
	if err != nil {
		return Receipt{}, publishError(m.Subject, err)
	}
	return Receipt{Stream: ack.Stream, Seq: ack.Seq, Duplicate: ack.Duplicate}, nil
}

func publishError(subject string, err error) error {
	err = fmt.Errorf("publish to %q: %w", subject, err)
	if errors.Is(err, ErrTooLarge) {
		return err
	}
	return fault.Down(err)
}

func (j *JetStream) sendRaw(ctx context.Context, m *nats.Msg) (pubAck, error) {
	defer slot.Pause(ctx)()
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if gathers(ctx) && m.Header.Get(headerSchedule) == "" {
		return j.gather.send(ctx, m)
	}
	return j.request(ctx, m)
}

// request publishes one message and reads the acknowledgement.
func (j *JetStream) request(ctx context.Context, m *nats.Msg) (pubAck, error) {
	reply, err := j.ask(ctx, m)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return pubAck{}, fmt.Errorf("%w takes it", ErrNoStream)
	case errors.Is(err, nats.ErrMaxPayload):
		return pubAck{}, fmt.Errorf("%w: %w", ErrTooLarge, err)
	case err != nil:
		return pubAck{}, err
	}
	var ack pubAck
	if err := codec.Unmarshal(reply.Data, &ack); err != nil {
		return pubAck{}, fmt.Errorf("read the broker's answer: %w", err)
	}
	j.answered(ack.Error)
	if ack.Error != nil {
		return pubAck{}, ack.Error
	}
	if ack.Stream == "" || ack.Seq == 0 {
		return pubAck{}, errors.New("the answer came from no stream")
	}
	return ack, nil
}

// Announce implements Bus.
func (j *JetStream) Announce(subject string, h Header, body []byte) error {
	if err := checkSubject(subject); err != nil {
		return fmt.Errorf("announce on %q: %w", subject, err)
	}
	if err := j.nc.PublishMsg(&nats.Msg{Subject: subject, Header: expand(h, 0), Data: body}); err != nil {
		return publishError(subject, err)
	}
	return nil
}

// expand turns headers into those of the client, with room for more.
func expand(h Header, more int) nats.Header {
	if len(h)+more == 0 {
		return nil
	}
	out := make(nats.Header, len(h)+more)
	values := make([]string, len(h)) // one allocation for all values
	i := 0
	for name, value := range h {
		values[i] = value
		out[name] = values[i : i+1 : i+1]
		i++
	}
	return out
}

// flatten is the reverse of expand: the first value of each header counts.
func flatten(h nats.Header) Header {
	if len(h) == 0 {
		return nil
	}
	out := make(Header, len(h))
	for name, values := range h {
		if len(values) > 0 {
			out[name] = values[0]
		}
	}
	return out
}
