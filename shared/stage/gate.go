package stage

import (
	"context"
	"maps"
	"math/rand/v2"
	"sync"
	"time"
)

// The pauses between tries of something that has to succeed before the stage goes on.
const (
	holdFirst = 50 * time.Millisecond
	holdMost  = 5 * time.Second
)

// The ramp by which a stage begins again after an outage: what was down is often slow at
// first, and the first failure closes the gate again.
const (
	rampAfter  = time.Second            // how long an outage has to last for that
	rampFirst  = 100 * time.Millisecond // between the first two pieces of work
	rampShrink = 0.8                    // each pause is this part of the one before
	rampLeast  = time.Millisecond       // a shorter pause is none
)

// gate lets new work begin only while nothing that is in hand waits for a dependency: a
// breaker for the whole stage, closed by whoever is held.
type gate struct {
	mu     sync.Mutex
	held   map[string]int   // what is waited for, how many wait
	causes map[string]error // the last error of each
	open   chan struct{}    // closed while nothing is held
	since  time.Time        // when it was shut
	pause  time.Duration    // of the ramp, before the next piece of work; 0 is none
}

func newGate() *gate {
	g := &gate{held: map[string]int{}, causes: map[string]error{}, open: make(chan struct{})}
	close(g.open)
	return g
}

// wait returns when the gate is open.
func (g *gate) wait(ctx context.Context) error {
	for {
		g.mu.Lock()
		open := g.open
		g.mu.Unlock()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-open:
		}
		g.mu.Lock()
		free := len(g.held) == 0
		g.mu.Unlock()
		if free {
			return nil
		}
	}
}

// closed reports whether anything is held.
func (g *gate) closed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.held) > 0
}

// block closes the gate for what and reports whether it is the first to wait for it.
func (g *gate) block(what string, cause error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.held) == 0 {
		g.open = make(chan struct{})
		g.since = time.Now()
	}
	g.held[what]++
	g.causes[what] = cause
	return g.held[what] == 1
}

// release takes back one block and reports whether nobody waits for what any more.
func (g *gate) release(what string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held[what]--
	last := g.held[what] == 0
	if last {
		delete(g.held, what)
		delete(g.causes, what)
	}
	if len(g.held) == 0 {
		g.pause = 0
		if time.Since(g.since) >= rampAfter {
			g.pause = rampFirst
		}
		close(g.open)
	}
	return last
}

// ramp returns how long to wait before the next piece of work is begun.
func (g *gate) ramp() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	pause := g.pause
	if g.pause = time.Duration(float64(pause) * rampShrink); g.pause < rampLeast {
		g.pause = 0
	}
	return pause
}

// problems lists what is waited for.
func (g *gate) problems() map[string]error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.causes)
}

// hold calls op until it succeeds, with growing pauses, and keeps the gate closed from its
// first failure on. It returns an error only when ctx ends or final says that op's error
// will not go away.
func (r *Runner) hold(ctx context.Context, what string, op func(context.Context) error, final func(error) bool) error {
	err := op(ctx)
	if err == nil || (final != nil && final(err)) {
		return err
	}
	if r.gate.block(what, err) {
		r.log.Warn().Err(err).Str("waiting_for", what).Msg("held until it works again")
	}
	defer func() {
		if r.gate.release(what) {
			r.log.Info().Str("waiting_for", what).Msg("no longer held")
		}
	}()
	for pause := holdFirst; ; pause = min(2*pause, holdMost) {
		if err := sleep(ctx, jitter(pause)); err != nil {
			return err
		}
		err = op(ctx)
		if err == nil || (final != nil && final(err)) {
			return err
		}
	}
}

// jitter spreads d by a fifth to either side, so that many who failed together do not come
// back together.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64())) //nolint:gosec // not a secret
}

// sleep waits for d, or until ctx ends and then returns why.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
