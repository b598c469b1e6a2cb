package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// tailPause is the time between two looks at what has ended.
const tailPause = 200 * time.Millisecond

// Tail tells the ledger which documents end, until ctx does. It is for measuring: what Check
// finds does not depend on it. While the broker is away it goes on asking.
func Tail(ctx context.Context, js jetstream.JetStream, l *Ledger) {
	next := map[string]uint64{streamCompleted: 1, streamDLQ: 1}
	for ctx.Err() == nil {
		for stream := range next {
			if seq, err := follow(ctx, js, stream, next[stream], l); err == nil || seq > 0 {
				next[stream] = max(seq, next[stream])
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(tailPause):
		}
	}
}

// follow reads what a stream has from a sequence on, and returns the next one.
func follow(ctx context.Context, js jetstream.JetStream, stream string, from uint64, l *Ledger) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("look at %s: %w", stream, err)
	}
	last := s.CachedInfo().State.LastSeq
	if last < from {
		return from, nil
	}
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		HeadersOnly: true, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from,
	})
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", stream, err)
	}
	next := from
	for next <= last && ctx.Err() == nil {
		batch, err := c.Fetch(min(fetchBatch, int(last-next+1)), jetstream.FetchMaxWait(time.Second))
		if err != nil {
			return next, err
		}
		n := 0
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return next, err
			}
			l.Ended(m.Headers().Get(headerFileID))
			next = meta.Sequence.Stream + 1
			n++
		}
		if n == 0 {
			break
		}
	}
	return next, ctx.Err()
}
