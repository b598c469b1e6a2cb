// Package slot bounds how many documents a stage works on at once, without counting those
// that wait for the broker or the store: who waits gives its slot to another meanwhile.
package slot

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// Slot is the right to work, out of a bounded number. One goroutine uses it at a time.
type Slot struct {
	all  *semaphore.Weighted
	held atomic.Bool
}

// New returns a slot of all that is held already: the caller has acquired 1 of all.
func New(all *semaphore.Weighted) *Slot {
	s := &Slot{all: all}
	s.held.Store(true)
	return s
}

// Release gives the slot back. Idempotent.
func (s *Slot) Release() {
	if s.held.CompareAndSwap(true, false) {
		s.all.Release(1)
	}
}

type key struct{}

// With returns a context whose user works in s.
func With(ctx context.Context, s *Slot) context.Context { return context.WithValue(ctx, key{}, s) }

// Pause gives back the slot of ctx, if it has one, until resume is called, which waits for
// a free one. Where ctx ends before, the caller goes on without: it is about to stop.
func Pause(ctx context.Context) (resume func()) {
	s, ok := ctx.Value(key{}).(*Slot)
	if !ok || !s.held.CompareAndSwap(true, false) {
		return func() {}
	}
	s.all.Release(1)
	return func() {
		if s.all.Acquire(ctx, 1) == nil {
			s.held.Store(true)
		}
	}
}
