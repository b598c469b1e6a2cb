package stage

import (
	"context"
	"sync"
	"time"
)

const (
	// ackLate is how long after its outputs are confirmed an input is acknowledged at the
	// latest: on disk an acknowledgement is a write of its own, which would be in the way of
	// the next stage's. A crash in between only means that the work is done again.
	ackLate = 15 * time.Millisecond
	// ackFull is the number of inputs that is acknowledged at once.
	ackFull = 128
)

// acks acknowledges what is done, late and many at a time, in a goroutine of its own.
type acks struct {
	runner *Runner
	first  chan struct{} // a token: there is something to do
	full   chan struct{} // a token: there is much to do, or it is the end
	ended  chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex
	done   []*work
	closed bool
}

// newAcks starts it; ctx ends when what is in hand is given up.
func newAcks(ctx context.Context, r *Runner) *acks {
	a := &acks{
		runner: r, first: make(chan struct{}, 1), full: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	go a.run(ctx)
	return a
}

// add hands over work whose outputs are stored and published.
func (a *acks) add(w *work) {
	a.mu.Lock()
	a.done = append(a.done, w)
	n := len(a.done)
	a.mu.Unlock()
	if n == 1 {
		token(a.first)
	}
	if n == ackFull {
		token(a.full)
	}
}

// close acknowledges what is left and returns when that is done. Nothing may be added any
// more.
func (a *acks) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	token(a.first)
	token(a.full)
	<-a.ended
}

func (a *acks) run(ctx context.Context) {
	defer close(a.ended)
	late := time.NewTimer(0)
	defer late.Stop()
	for {
		<-a.first
		late.Reset(ackLate)
		select {
		case <-late.C:
		case <-a.full:
		}
		a.mu.Lock()
		all, closed := a.done, a.closed
		a.done = nil
		a.mu.Unlock()
		for _, w := range all {
			a.send(ctx, w)
		}
		if closed {
			return
		}
	}
}

// send acknowledges one input. While the broker cannot be reached it stays in hand.
func (a *acks) send(ctx context.Context, w *work) {
	err := a.runner.hold(ctx, "acknowledgement", func(context.Context) error { return w.AckLazily() }, nil)
	if err != nil {
		a.runner.log.Debug().Err(err).Msg("not acknowledged before the end; it comes again by itself")
	}
	w.leave()
}

// token puts a token into c unless there is one.
func token(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
