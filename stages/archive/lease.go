package archive

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jobspy/millrace/shared/bus"
)

const (
	keyLease = "archive.lease"
	// leaseTTL is how long a lease outlives its holder.
	leaseTTL = time.Minute
	// leaseKeep is how often a lease is renewed while it lasts.
	leaseKeep = 4
	// leaseGiveUp is the part of its time for which a lease that could not be renewed is still
	// believed.
	leaseGiveUp = 2
	// leaseFree bounds the giving back.
	leaseFree = 5 * time.Second
)

// errLost says that somebody else may be archiving.
var errLost = errors.New("the archive's lease could not be kept")

// lease keeps others away from a piece of work. It is renewed until release.
type lease struct {
	kv   bus.KV
	key  string
	ttl  time.Duration
	stop context.CancelCauseFunc
	over chan struct{} // closed when nobody renews any more

	mu   sync.Mutex
	rev  uint64
	lost bool
}

// takeLease takes the lease of the archive and returns a context that ends when it is lost.
// Error: ErrBusy.
func takeLease(ctx context.Context, kv bus.KV) (*lease, context.Context, error) {
	return takeLeaseOf(ctx, kv, keyLease, leaseTTL)
}

// takeLeaseOf takes the lease of a key that outlives its holder by ttl. Error: ErrBusy.
func takeLeaseOf(ctx context.Context, kv bus.KV, key string, ttl time.Duration) (*lease, context.Context, error) {
	rev, err := kv.Create(ctx, key, []byte("held"), ttl)
	if errors.Is(err, bus.ErrExists) {
		return nil, nil, ErrBusy
	}
	if err != nil {
		return nil, nil, fmt.Errorf("take the archive's lease: %w", err)
	}
	ctx, stop := context.WithCancelCause(ctx)
	l := &lease{kv: kv, key: key, ttl: ttl, rev: rev, stop: stop, over: make(chan struct{})}
	go l.keep(ctx)
	return l, ctx, nil
}

// keep renews the lease until ctx ends.
func (l *lease) keep(ctx context.Context) {
	defer close(l.over)
	t := time.NewTicker(l.ttl / leaseKeep)
	defer t.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := l.hold(ctx)
		if err == nil {
			last = time.Now()
		} else if errors.Is(err, errLost) || time.Since(last) >= l.ttl/leaseGiveUp {
			l.mu.Lock()
			l.lost = true // or so it must be taken
			l.mu.Unlock()
			l.stop(errors.Join(errLost, err))
			return
		}
	}
}

// hold makes sure that the lease is still ours.
func (l *lease) hold(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	rev, err := l.kv.Update(ctx, l.key, []byte("held"), l.rev, l.ttl)
	if errors.Is(err, bus.ErrRevision) {
		l.lost = true
		return fmt.Errorf("%w: %w", errLost, err)
	}
	if err != nil {
		return fmt.Errorf("keep the archive's lease: %w", err)
	}
	l.rev = rev
	return nil
}

// release gives the lease back unless it was lost.
func (l *lease) release() error {
	l.stop(context.Canceled)
	<-l.over
	if l.lost {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaseFree)
	defer cancel()
	if err := l.kv.Delete(ctx, l.key); err != nil {
		return fmt.Errorf("give back the archive's lease: %w", err)
	}
	return nil
}
