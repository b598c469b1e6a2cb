package embedded

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jobspy/millrace/shared/failpoint"
	"github.com/jobspy/millrace/shared/store"
)

// errStopped: the object store was stopped before the write was known to be on disk.
var errStopped = errors.New("the object store is stopped")

// groupSync lets many writers share one sync of the file system. A writer that joins waits
// for a sync that began after it joined, so everything it wrote before is on disk. One
// sync runs at a time; who comes while it runs shares the next one.
type groupSync struct {
	sync func() error
	// gap is the least time between the beginnings of two syncs that follow one another while
	// much is written, so that more of it shares each; while little is, nothing waits.
	gap time.Duration

	closing chan struct{} // closed by close
	hurry   chan struct{} // a token: somebody cannot wait for the gap
	work    sync.WaitGroup

	mu     sync.Mutex
	next   *round // the one that may still be joined; nil where nobody waits
	busy   bool   // run is running
	closed bool
	began  time.Time // of the last sync
	writes int       // objects that joined since then
	rate   float64   // objects a second, lately
}

// The rates of objects a second between which the gap grows from nothing to all of it: an
// idle line is below, one that is busy above.
const (
	rateLittle = 800
	rateMuch   = 1600
	// rateSpan is about how far back the rate looks.
	rateSpan = 200 * time.Millisecond
)

func newGroupSync(gap time.Duration, syncFS func() error) *groupSync {
	return &groupSync{sync: syncFS, gap: gap, closing: make(chan struct{}), hurry: make(chan struct{}, 1)}
}

// round is one sync and those who wait for it.
type round struct {
	done chan struct{}
	err  error // valid when done is closed
}

// join returns when everything written before the call, n objects, is on disk; an urgent ctx
// does not wait for the gap. Where ctx is over before that, it is unknown.
func (g *groupSync) join(ctx context.Context, n int) error {
	if failpoint.Without(failpoint.Sync) {
		return nil
	}
	r, err := g.enter(n)
	if err != nil {
		return err
	}
	if store.IsUrgent(ctx) {
		select {
		case g.hurry <- struct{}{}:
		default:
		}
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *groupSync) enter(n int) (*round, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, errStopped
	}
	g.writes += n
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
	for {
		if wait := g.wanted(); wait > 0 {
			g.pause(wait)
		}
		r := g.leave()
		if r == nil {
			return
		}
		r.err = g.sync()
		close(r.done)
	}
}

// wanted returns how long the next sync should wait, which somebody waits for.
func (g *groupSync) wanted() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.next == nil {
		return 0
	}
	part := (g.rate - rateLittle) / (rateMuch - rateLittle)
	return time.Duration(float64(g.gap)*min(max(part, 0), 1)) - time.Since(g.began)
}

// pause returns after d, or when g is closed.
func (g *groupSync) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-g.hurry:
	case <-g.closing:
	}
}

// leave closes the next round to further writers and returns it, or ends run.
func (g *groupSync) leave() *round {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.next
	g.next = nil
	if r == nil {
		g.busy = false
		return nil
	}
	since := rateSpan
	if !g.began.IsZero() {
		since = max(time.Since(g.began), time.Millisecond)
	}
	g.rate += min(since.Seconds()/rateSpan.Seconds(), 1) * (float64(g.writes)/since.Seconds() - g.rate)
	g.writes, g.began = 0, time.Now()
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
