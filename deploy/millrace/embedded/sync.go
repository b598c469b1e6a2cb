package embedded

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errStopped: the object store was stopped before the write was known to be on disk.
var errStopped = errors.New("the object store is stopped")

// groupSync lets many writers share one sync of the file system. A writer that joins waits
// for a sync that began after it joined, so everything it wrote before is on disk. One
// sync runs at a time; who comes while it runs shares the next one.
type groupSync struct {
	sync func() error
	// gap is the least time between the beginnings of two syncs that follow one another, so
	// that more writers share each. The first sync after a pause does not wait.
	gap time.Duration

	closing chan struct{} // closed by close
	work    sync.WaitGroup

	mu     sync.Mutex
	next   *round // the one that may still be joined; nil where nobody waits
	busy   bool   // run is running
	closed bool
}

func newGroupSync(gap time.Duration, syncFS func() error) *groupSync {
	return &groupSync{sync: syncFS, gap: gap, closing: make(chan struct{})}
}

// round is one sync and those who wait for it.
type round struct {
	done chan struct{}
	err  error // valid when done is closed
}

// join returns when everything written before the call is on disk. Where ctx is over
// before that, it is unknown.
func (g *groupSync) join(ctx context.Context) error {
	r, err := g.enter()
	if err != nil {
		return err
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *groupSync) enter() (*round, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, errStopped
	}
	if g.next == nil {
		g.next = &round{done: make(chan struct{})}
	}
	if !g.busy {
		g.busy = true
		g.work.Go(g.run)
	}
	return g.next, nil
}

// run syncs until nobody waits.
func (g *groupSync) run() {
	var began time.Time
	for {
		if wait := g.gap - time.Since(began); !began.IsZero() && wait > 0 && g.waiting() {
			g.pause(wait)
		}
		r := g.leave()
		if r == nil {
			return
		}
		began = time.Now()
		r.err = g.sync()
		close(r.done)
	}
}

// pause returns after d, or when g is closed.
func (g *groupSync) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-g.closing:
	}
}

// waiting reports whether somebody waits for the next sync.
func (g *groupSync) waiting() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.next != nil
}

// leave closes the next round to further writers and returns it, or ends run.
func (g *groupSync) leave() *round {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.next
	g.next = nil
	if r == nil {
		g.busy = false
	}
	return r
}

// close lets nobody in any more and returns when the last sync is over. Idempotent.
func (g *groupSync) close() {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		close(g.closing)
	}
	g.mu.Unlock()
	g.work.Wait()
}
