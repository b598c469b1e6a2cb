package bus

import (
	"context"
	"errors"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/jobspy/millrace/shared/fault"
)

// MemoryMaxMessage is the largest message that Memory takes, headers and body, in bytes: as
// much as the line's broker is set to take.
const MemoryMaxMessage = 8 << 20

// Memory is a Bus inside one process, for tests: the same semantics as JetStream, nothing
// durable. It takes its time from package time alone, so that it can be used in a
// testing/synctest bubble, in which it must then be made. It may be used concurrently.
type Memory struct {
	kick chan struct{} // the next event may be earlier than it was
	stop chan struct{}
	done chan struct{}

	mu        sync.Mutex
	closed    bool
	streams   []*memStream
	buckets   map[string]*memBucket
	listeners map[*mailbox[Stored]]string // with their filters
	subs      map[*memSub]struct{}
	events    []event // the next first
}

var _ Bus = (*Memory)(nil)

// NewMemory returns a bus with the given streams, their consumers, and buckets. The caller
// closes it.
func NewMemory(streams []StreamConfig, buckets []KVConfig) *Memory {
	m := &Memory{
		kick:      make(chan struct{}, 1),
		stop:      make(chan struct{}),
		done:      make(chan struct{}),
		buckets:   make(map[string]*memBucket, len(buckets)),
		listeners: make(map[*mailbox[Stored]]string),
		subs:      make(map[*memSub]struct{}),
	}
	for _, c := range streams {
		m.streams = append(m.streams, newMemStream(m, c))
	}
	for _, c := range buckets {
		m.buckets[c.Name] = &memBucket{m: m, name: c.Name, entries: make(map[string]memEntry), watches: make(map[*mailbox[Entry]]string)}
	}
	go m.run()
	return m
}

// Close ends every Consume, Listen and Watch and returns when no goroutine of m is left. It is
// idempotent. Everything else fails afterwards as if the broker were down.
func (m *Memory) Close() error {
	m.mu.Lock()
	first := !m.closed
	m.closed = true
	var stops []func()
	for s := range m.subs {
		stops = append(stops, s.Stop)
	}
	for l := range m.listeners {
		stops = append(stops, l.close)
	}
	clear(m.listeners)
	for _, b := range m.buckets {
		for w := range b.watches {
			stops = append(stops, w.close)
		}
		clear(b.watches)
	}
	m.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
	if first {
		close(m.stop)
	}
	<-m.done
	return nil
}

// Ready implements Bus.
func (m *Memory) Ready(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.usable(ctx)
}

// usable says whether a call may go on. The lock is held.
func (m *Memory) usable(ctx context.Context) error {
	if m.closed {
		return fault.Down(errors.New("the bus is closed"))
	}
	if err := ctx.Err(); err != nil {
		return fault.Down(err)
	}
	return nil
}

// stream finds a stream by name. The lock is held.
func (m *Memory) stream(ctx context.Context, name string) (*memStream, error) {
	if err := m.usable(ctx); err != nil {
		return nil, err
	}
	for _, s := range m.streams {
		if s.cfg.Name == name {
			s.expire(time.Now())
			return s, nil
		}
	}
	return nil, fault.Down(ErrNoStream)
}

// event is something that happens at a time, with the lock held.
type event struct {
	at time.Time
	do func(now time.Time)
}

// at plans an event behind those of the same time. The lock is held.
func (m *Memory) at(t time.Time, do func(now time.Time)) {
	i := sort.Search(len(m.events), func(i int) bool { return m.events[i].at.After(t) })
	m.events = slices.Insert(m.events, i, event{t, do})
	if i == 0 {
		signal(m.kick)
	}
}

// run makes the events happen.
func (m *Memory) run() {
	defer close(m.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-m.kick:
		case <-m.stop:
			return
		}
		m.mu.Lock()
		for len(m.events) > 0 && !m.events[0].at.After(time.Now()) {
			do := m.events[0].do
			m.events[0] = event{}
			m.events = m.events[1:]
			do(time.Now())
		}
		timer.Stop()
		if len(m.events) > 0 {
			timer.Reset(time.Until(m.events[0].at))
		}
		m.mu.Unlock()
	}
}

// mailbox calls fn for what is put in, in order, one call at a time, without making whoever
// puts wait.
type mailbox[T any] struct {
	fn      func(*T)
	wake    chan struct{}
	stop    chan struct{}
	done    chan struct{}
	halting sync.Once

	mu    sync.Mutex
	queue []*T
}

func newMailbox[T any](fn func(*T)) *mailbox[T] {
	b := &mailbox[T]{fn: fn, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go b.run()
	return b
}

func (b *mailbox[T]) put(v *T) {
	b.mu.Lock()
	b.queue = append(b.queue, v)
	b.mu.Unlock()
	signal(b.wake)
}

func (b *mailbox[T]) take() []*T {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queue
	b.queue = nil
	return q
}

func (b *mailbox[T]) run() {
	defer close(b.done)
	for {
		for _, v := range b.take() {
			select {
			case <-b.stop:
				b.put(v) // for whoever closed it
				continue
			default:
				b.fn(v)
			}
		}
		select {
		case <-b.wake:
		case <-b.stop:
			return
		}
	}
}

// close returns when fn is not running and will not be called any more.
func (b *mailbox[T]) close() {
	b.halting.Do(func() { close(b.stop) })
	<-b.done
}
