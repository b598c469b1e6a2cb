package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
)

// idleTimeout is how long the broker keeps a watch of ours whose process has gone.
const idleTimeout = 30 * time.Second

// ends watches documents of the run end. It reads what the broker has stored, as it is
// stored, by ephemeral consumers that acknowledge nothing.
type ends struct {
	seen      func(i int, body []byte) // called for each record, one at a time
	prefix    string
	first     int // number of the first document that is watched
	completed uint64

	mu   sync.Mutex
	at   []time.Time // when the record of each document came, zero before
	left int
	dead int
	done chan struct{} // closed when all have ended

	stops []func()
}

// watch begins to watch for n documents from number first on. seen may be nil; else it is
// called as each record comes. The caller must call stop.
func (r *run) watch(ctx context.Context, first, n int, seen func(i int, body []byte)) (*ends, error) {
	e := &ends{seen: seen, prefix: prefix(r.id), first: first, at: make([]time.Time, n), left: n, done: make(chan struct{})}
	for _, stream := range []string{contract.StreamCompleted, contract.StreamDLQ} {
		info, err := r.Producer.Info(ctx, stream)
		if err == nil {
			if stream == contract.StreamCompleted {
				e.completed = info.LastSeq + 1
			}
			err = e.follow(ctx, r.Producer, stream, info.LastSeq+1)
		}
		if err != nil {
			e.stop()
			return nil, fmt.Errorf("watch %s: %w", stream, err)
		}
	}
	return e, nil
}

func (e *ends) follow(ctx context.Context, b *bus.JetStream, stream string, from uint64) error {
	consumer, err := b.JetStream().OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from, InactiveThreshold: idleTimeout,
	})
	if err != nil {
		return err
	}
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		e.end(m.Headers().Get(contract.HeaderFileID), m.Data(), stream == contract.StreamDLQ)
	})
	if err != nil {
		return err
	}
	e.stops = append(e.stops, func() {
		consuming.Stop()
		<-consuming.Closed()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), idleTimeout)
		defer cancel()
		// The broker would remove it by itself, a little later.
		_ = b.JetStream().DeleteConsumer(ctx, stream, consumer.CachedInfo().Name)
	})
	return nil
}

// end notes that a document has ended. Others' documents are passed over.
func (e *ends) end(id string, body []byte, dead bool) {
	now := time.Now()
	number, ours := strings.CutPrefix(id, e.prefix)
	i, err := strconv.Atoi(number)
	i -= e.first
	if !ours || err != nil || i < 0 || i >= len(e.at) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.at[i].IsZero() {
		return
	}
	e.at[i] = now
	if dead {
		e.dead++
	} else if e.seen != nil {
		e.seen(i, body)
	}
	if e.left--; e.left == 0 {
		close(e.done)
	}
}

// wait returns when all have ended, or after at most d. An error says that ctx is over.
func (e *ends) wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-e.done:
	case <-t.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// times returns when the documents that have ended did, how many of them are dead letters
// and how many have not ended.
func (e *ends) times() (at []time.Time, dead, left int) {
	e.each(func(_ int, t time.Time) { at = append(at, t) })
	e.mu.Lock()
	defer e.mu.Unlock()
	return at, e.dead, e.left
}

// each calls fn for each document that has ended, by its number from the first.
func (e *ends) each(fn func(i int, at time.Time)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, t := range e.at {
		if !t.IsZero() {
			fn(i, t)
		}
	}
}

// stop ends the watch.
func (e *ends) stop() {
	for _, s := range e.stops {
		s()
	}
	e.stops = nil
}

// ErrBusy: the line has work that is not ours.
var ErrBusy = errors.New("the line has work to do already, so that its rate would not be that of this run")

// busy counts what the stages have not acknowledged.
func busy(ctx context.Context, b bus.Bus) (int, error) {
	n := 0
	for _, s := range contract.Stages() {
		info, err := b.Info(ctx, contract.StageStream(s))
		if err != nil {
			return 0, err
		}
		n += int(info.Messages)
	}
	info, err := b.Info(ctx, contract.StreamRetry)
	if err != nil {
		return 0, err
	}
	for _, c := range info.Consumers {
		n += int(c.Pending) + c.AckPending
	}
	return n, nil
}
