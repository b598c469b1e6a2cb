//go:build integration

package integration

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
)

const (
	// steadyEvery is the pace of the steady load.
	steadyEvery = 100 * time.Millisecond
	// steadyMost is how many publishes may wait for the broker at the same time.
	steadyMost = 400
)

// steady publishes at a fixed pace, whatever the broker does, and notes when each publish was
// accepted.
type steady struct {
	t      *testing.T
	b      *bus.JetStream
	cancel context.CancelFunc
	done   chan struct{}
	halted atomic.Bool

	mu       sync.Mutex
	accepted []sent
	times    []time.Time
}

// load begins to publish the documents from number first on.
func load(t *testing.T, b *bus.JetStream, first int) *steady {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &steady{t: t, b: b, cancel: cancel, done: make(chan struct{})}
	t.Cleanup(cancel)
	go s.run(ctx, first)
	return s
}

func (s *steady) run(ctx context.Context, next int) {
	defer close(s.done)
	tick := time.NewTicker(steadyEvery)
	defer tick.Stop()
	room := make(chan struct{}, steadyMost)
	var under sync.WaitGroup
	defer under.Wait()
	for ; !s.halted.Load(); next++ {
		room <- struct{}{}
		under.Go(func() {
			defer func() { <-room }()
			s.one(ctx, document(next))
		})
		<-tick.C
	}
}

// one publishes a document until it is accepted.
func (s *steady) one(ctx context.Context, d sent) {
	for ctx.Err() == nil {
		_, err := s.b.Publish(ctx, bus.Message{
			Subject: contract.RawSubject(d.task, d.provider, ""), ID: d.id,
			Header: bus.Header{contract.HeaderFileID: d.id}, Body: d.body,
		})
		if err == nil {
			s.mu.Lock()
			s.accepted, s.times = append(s.accepted, d), append(s.times, time.Now())
			s.mu.Unlock()
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(poll):
		}
	}
}

// more waits until n more publishes have been accepted.
func (s *steady) more(n int) {
	s.t.Helper()
	count := func() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.times) }
	before := count()
	require.Eventually(s.t, func() bool { return count() >= before+n }, endWait, poll, "%d more publishes are accepted", n)
}

// pause returns the longest time between two publishes that were accepted since a time.
func (s *steady) pause(since time.Time) (longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortFunc(s.times, time.Time.Compare)
	for i, at := range s.times[1:] {
		if at.After(since) {
			longest = max(longest, at.Sub(s.times[i]))
		}
	}
	return longest
}

// stop ends the load when all that was begun is accepted, and returns it.
func (s *steady) stop() []sent {
	s.halted.Store(true)
	<-s.done
	return s.accepted
}
