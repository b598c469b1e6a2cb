package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jobspy/millrace/shared/fault"
)

// watchEvery is the pace at which a watched key is read without a notice. It bounds how late
// a change is seen whose notice got lost, with a connection for example.
const watchEvery = 5 * time.Second

// watchAfter are the pauses after a notice before the key is read. A write is heard when it
// is sent, which may be before it is stored.
func watchAfter() []time.Duration {
	return []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond}
}

// watch is one Watch. It reads the key when it hears somebody write it, and now and then
// without that: so it needs no consumer that could get lost, and a bucket that was made
// anew is the same to it.
type watch struct {
	b    *bucket
	key  string
	fn   func(Entry)
	sub  *nats.Subscription
	seen uint64 // the revision that fn was called with; of the loop alone

	heard   chan struct{} // somebody wrote the key, or tried to
	ctx     context.Context
	cancel  context.CancelFunc
	done    chan struct{}
	halting sync.Once
}

// Watch implements KV.
func (b *bucket) Watch(ctx context.Context, key string, fn func(Entry)) (Subscription, error) {
	w := &watch{b: b, key: key, fn: fn, heard: make(chan struct{}, 1), done: make(chan struct{})}
	fail := func(err error) error { return fmt.Errorf("watch key %q of %q: %w", key, b.name, err) }
	if err := checkKey(key); err != nil {
		return nil, fail(err)
	}
	var err error
	if w.sub, err = b.j.nc.Subscribe(b.prefix+key, func(*nats.Msg) { signal(w.heard) }); err != nil {
		return nil, fail(fault.Down(err))
	}
	first, err := w.read(ctx)
	if err != nil {
		return nil, fail(errors.Join(err, w.sub.Unsubscribe()))
	}
	w.seen = first.Revision
	fn(first)
	// The watch outlives the call that began it.
	w.ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go w.run()
	return w, nil
}

// read returns the entry as it is; one that does not exist is empty.
func (w *watch) read(ctx context.Context) (Entry, error) {
	e, err := w.b.Get(ctx, w.key)
	if errors.Is(err, ErrNotFound) {
		return Entry{}, nil
	}
	return e, err
}

func (w *watch) run() {
	defer close(w.done)
	after := watchAfter()
	next := len(after) // the pause that comes next; those of a notice are over
	timer := time.NewTimer(watchEvery)
	defer timer.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-w.b.j.closed:
			return
		case <-w.heard:
			next = 0
		case <-timer.C:
			if w.look() {
				next = len(after)
			}
		}
		pause := watchEvery
		if next < len(after) {
			pause = after[next]
			next++
		}
		timer.Reset(pause)
	}
}

// look reads the key, calls fn where it has changed, and says whether it had. What cannot be
// read now is read again at the next turn.
func (w *watch) look() (changed bool) {
	e, err := w.read(w.ctx)
	if err != nil || e.Revision == w.seen || w.ctx.Err() != nil {
		return false
	}
	w.seen = e.Revision
	w.fn(e)
	return true
}

// Stop implements Subscription.
func (w *watch) Stop() {
	w.halting.Do(func() {
		_ = w.sub.Unsubscribe() // it fails only where the connection is closed
		w.cancel()
	})
	<-w.done
}
