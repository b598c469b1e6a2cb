package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	meddleBatch = 10                     // how many deliveries are taken away at once
	meddleWait  = 300 * time.Millisecond // for so many to be there
	longestBack = 2 * time.Second        // after which one that was taken comes again
)

// queueOf names the stream that holds the work of a stage.
func queueOf(stage string) string { return "LLM_" + strings.ToUpper(stage) }

// meddle takes deliveries away from a stage for the time of the event, as if a process had
// taken them that then gave them back in another order, and repeats them where the event
// says so, as a stage before would that did not know that it had published them.
func (r *run) meddle(ctx context.Context, e Event) error {
	ctx, cancel := context.WithTimeout(ctx, e.For)
	defer cancel()
	queue, err := r.rig.js.Stream(ctx, queueOf(e.Stage))
	if err != nil {
		return fmt.Errorf("meddle with %s: %w", e.Stage, err)
	}
	taken := 0
	for ctx.Err() == nil {
		names := queue.ConsumerNames(ctx)
		for name := range names.Name() {
			n, err := r.mix(ctx, queue, name, e.Kind == Repeated)
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("meddle with %s: %w", name, err)
			}
			taken += n
		}
		if names.Err() != nil && ctx.Err() == nil {
			return fmt.Errorf("meddle with %s: %w", e.Stage, names.Err())
		}
	}
	if taken == 0 {
		return errNotMet
	}
	return nil
}

// mix takes what a consumer has to give and gives it back, each at a time of its own. The
// other faults may be at work meanwhile: what the broker does not answer is left out.
func (r *run) mix(ctx context.Context, queue jetstream.Stream, consumer string, repeat bool) (taken int, err error) {
	c, err := queue.Consumer(ctx, consumer)
	if err != nil {
		return 0, ignoreOutage(err)
	}
	batch, err := c.Fetch(meddleBatch, jetstream.FetchMaxWait(meddleWait))
	if err != nil {
		return 0, ignoreOutage(err)
	}
	for m := range batch.Messages() {
		taken++
		if repeat {
			once, cancel := context.WithTimeout(ctx, time.Second)
			_, _ = r.rig.js.PublishMsg(once, again(m), jetstream.WithRetryAttempts(0)) // a queue may be full
			cancel()
		}
		// The order is not the seed's to say: what is there depends on the line.
		_ = m.NakWithDelay(time.Duration(rand.Int64N(int64(longestBack)))) //nolint:gosec // it comes again without it
	}
	return taken, nil
}

// again returns what a stage would publish of a message if it did not know that it had.
func again(m jetstream.Msg) *nats.Msg {
	h := nats.Header{}
	for name, values := range m.Headers() {
		if !strings.HasPrefix(name, "Nats-") {
			h[name] = values
		}
	}
	return &nats.Msg{Subject: m.Subject(), Header: h, Data: m.Data()}
}

// ignoreOutage returns nil for what says that the broker is away, which is another fault.
func ignoreOutage(err error) error {
	for _, away := range []error{
		nats.ErrTimeout, nats.ErrNoResponders, nats.ErrConnectionClosed, nats.ErrDisconnected,
		nats.ErrConnectionReconnecting, nats.ErrReconnectBufExceeded, context.DeadlineExceeded, jetstream.ErrNoHeartbeat,
	} {
		if errors.Is(err, away) {
			return nil
		}
	}
	return err
}
