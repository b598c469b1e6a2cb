package bus

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jobspy/millrace/shared/fault"
)

// memBucket is one bucket of a Memory, whose lock guards it.
type memBucket struct {
	m       *Memory
	name    string
	entries map[string]memEntry
	last    uint64                     // the newest revision
	watches map[*mailbox[Entry]]string // with their keys
}

type memEntry struct {
	value    []byte
	revision uint64
}

// KV implements Bus.
func (m *Memory) KV(ctx context.Context, bucket string) (KV, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, fmt.Errorf("bind to bucket %q: %w", bucket, err)
	}
	b := m.buckets[bucket]
	if b == nil {
		return nil, fmt.Errorf("bind to bucket %q: %w", bucket, fault.Down(ErrNoStream))
	}
	return b, nil
}

// begin takes the lock; whoever called it gives it back, error or not.
func (b *memBucket) begin(ctx context.Context, key string) error {
	b.m.mu.Lock()
	if err := b.m.usable(ctx); err != nil {
		return err
	}
	return checkKey(key)
}

func (b *memBucket) Get(ctx context.Context, key string) (Entry, error) {
	err := b.begin(ctx, key)
	defer b.m.mu.Unlock()
	e, ok := b.entries[key]
	if err == nil && !ok {
		err = ErrNotFound
	}
	if err != nil {
		return Entry{}, fmt.Errorf("read key %q of %q: %w", key, b.name, err)
	}
	return Entry{Value: bytes.Clone(e.value), Revision: e.revision}, nil
}

func (b *memBucket) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error) {
	err := b.begin(ctx, key)
	defer b.m.mu.Unlock()
	if _, ok := b.entries[key]; err == nil && ok {
		err = ErrExists
	}
	if err != nil {
		return 0, fmt.Errorf("create key %q of %q: %w", key, b.name, err)
	}
	return b.set(key, value, ttl), nil
}

func (b *memBucket) Update(ctx context.Context, key string, value []byte, rev uint64, ttl time.Duration) (uint64, error) {
	err := b.begin(ctx, key)
	defer b.m.mu.Unlock()
	if err == nil && b.entries[key].revision != rev {
		err = ErrRevision
	}
	if err != nil {
		return 0, fmt.Errorf("update key %q of %q: %w", key, b.name, err)
	}
	return b.set(key, value, ttl), nil
}

func (b *memBucket) Put(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error) {
	err := b.begin(ctx, key)
	defer b.m.mu.Unlock()
	if err != nil {
		return 0, fmt.Errorf("set key %q of %q: %w", key, b.name, err)
	}
	return b.set(key, value, ttl), nil
}

func (b *memBucket) Delete(ctx context.Context, key string) error {
	err := b.begin(ctx, key)
	defer b.m.mu.Unlock()
	if err != nil {
		return fmt.Errorf("delete key %q of %q: %w", key, b.name, err)
	}
	b.remove(key)
	return nil
}

// Watch implements KV.
func (b *memBucket) Watch(ctx context.Context, key string, fn func(Entry)) (Subscription, error) {
	first := make(chan struct{})
	began := sync.OnceFunc(func() { close(first) })
	err := b.begin(ctx, key)
	if err != nil {
		b.m.mu.Unlock()
		return nil, fmt.Errorf("watch key %q of %q: %w", key, b.name, err)
	}
	box := newMailbox(func(e *Entry) { fn(*e); began() })
	b.watches[box] = key
	box.put(b.entry(key))
	b.m.mu.Unlock()
	select {
	case <-first:
	case <-box.done: // the bus was closed
	}
	return &memWatch{b: b, box: box}, nil
}

// memWatch is one Watch of a bucket.
type memWatch struct {
	b   *memBucket
	box *mailbox[Entry]
}

// Stop implements Subscription.
func (w *memWatch) Stop() {
	w.b.m.mu.Lock()
	delete(w.b.watches, w.box)
	w.b.m.mu.Unlock()
	w.box.close()
}

// entry returns what watchers of a key are shown.
func (b *memBucket) entry(key string) *Entry {
	e := b.entries[key]
	return &Entry{Value: bytes.Clone(e.value), Revision: e.revision}
}

// changed tells the watchers of a key.
func (b *memBucket) changed(key string) {
	for box, watched := range b.watches {
		if watched == key {
			box.put(b.entry(key))
		}
	}
}

func (b *memBucket) remove(key string) {
	b.last++
	delete(b.entries, key)
	b.changed(key)
}

func (b *memBucket) set(key string, value []byte, ttl time.Duration) uint64 {
	b.last++
	rev := b.last
	b.entries[key] = memEntry{bytes.Clone(value), rev}
	b.changed(key)
	if ttl > 0 {
		b.m.at(time.Now().Add(wholeSeconds(ttl)), func(time.Time) {
			if b.entries[key].revision == rev {
				b.remove(key)
			}
		})
	}
	return rev
}
