package audit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	fetchBatch = 500
	fetchWait  = 5 * time.Second
	askWait    = 5 * time.Second // for one answer of the broker
)

// scan calls fn for all messages that a stream has when it is called, in their order.
func scan(ctx context.Context, js jetstream.JetStream, stream string, headersOnly bool, fn func(jetstream.Msg) error) error {
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("look at %s: %w", stream, err)
	}
	last := s.CachedInfo().State.LastSeq
	if s.CachedInfo().State.Msgs == 0 {
		return nil
	}
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{HeadersOnly: headersOnly})
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	for {
		batch, err := c.Fetch(fetchBatch, jetstream.FetchMaxWait(fetchWait))
		if err != nil {
			return fmt.Errorf("read %s: %w", stream, err)
		}
		n := 0
		for m := range batch.Messages() {
			n++
			meta, err := m.Metadata()
			if err != nil {
				return fmt.Errorf("read %s: %w", stream, err)
			}
			if err := fn(m); err != nil {
				return err
			}
			if meta.Sequence.Stream >= last {
				return nil
			}
		}
		if err := errors.Join(batch.Error(), ctx.Err()); err != nil || n == 0 {
			return errors.Join(err, fmt.Errorf("read %s: it ended before message %d", stream, last))
		}
	}
}

// end is one end of a document as a stream has it.
type end struct {
	seq              uint64
	replay           int
	record           *record // nil for a dead letter
	reason, name     string
	producerID, file string
	foreign          string // the first header that has no business there
}

func newEnd(m jetstream.Msg) (*end, error) {
	meta, err := m.Metadata()
	if err != nil {
		return nil, err
	}
	h := m.Headers()
	e := &end{
		seq: meta.Sequence.Stream, file: h.Get(headerFileID), reason: h.Get(headerReason), producerID: h.Get(headerProducerID),
		name: h.Get(headerName),
	}
	if v := h.Get(headerReplay); v != "" {
		if e.replay, err = strconv.Atoi(v); err != nil {
			return nil, fmt.Errorf("read %s of message %d: %w", headerReplay, e.seq, err)
		}
	}
	for name := range h {
		if !allowed(name) {
			e.foreign = name
		}
	}
	return e, nil
}

// Depths returns how much each queue holds that is work; timers are none.
func Depths(ctx context.Context, js jetstream.JetStream) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	depths := map[string]int{}
	for _, name := range queues() {
		s, err := js.Stream(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", name, err)
		}
		n := int(s.CachedInfo().State.Msgs)
		if name == streamRetry {
			timers, err := timers(ctx, s)
			if err != nil {
				return nil, err
			}
			n -= timers
		}
		if n > 0 {
			depths[name] = n
		}
	}
	return depths, nil
}

// timers counts what LLM_RETRY holds of timers: the schedules, and what they have set off. A
// run of the archive may take minutes: its message is there until it has ended, and the next
// one, which asks again and again whether it has.
func timers(ctx context.Context, s jetstream.Stream) (int, error) {
	n := 0
	for _, subject := range []string{rootCron + ">", subjectRetriedTimer} {
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(subject))
		if err != nil {
			return 0, fmt.Errorf("look at %s: %w", streamRetry, err)
		}
		for _, schedules := range info.State.Subjects {
			n += int(schedules)
		}
	}
	for seq := uint64(1); ; {
		m, err := s.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(subjectDueArchive))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return n, nil
		}
		if err != nil {
			return 0, fmt.Errorf("look at %s: %w", streamRetry, err)
		}
		if m.Header.Get(headerTimer) == "" {
			return n, nil // documents come back by it, too: there is work
		}
		n++
		seq = m.Sequence + 1
	}
}
