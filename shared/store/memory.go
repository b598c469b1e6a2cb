package store

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jobspy/millrace/shared/fault"
)

// Memory is a Store that keeps everything in this process and forgets it with the process.
// It copies what it takes and what it gives. Its zero value is not usable: call NewMemory.
type Memory struct {
	clock func() time.Time

	mu      sync.RWMutex
	buckets map[string]map[string]Object
	changed map[Ref]time.Time
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store; clock gives the times of objects and nil means time.Now.
func NewMemory(clock func() time.Time) *Memory {
	if clock == nil {
		clock = time.Now
	}
	return &Memory{clock: clock, buckets: map[string]map[string]Object{}, changed: map[Ref]time.Time{}}
}

// Put implements Store.
func (m *Memory) Put(ctx context.Context, objects ...Object) []error {
	errs := make([]error, len(objects))
	for i, o := range objects {
		if errs[i] = m.put(ctx, o); errs[i] != nil {
			errs[i] = fmt.Errorf("put object %q: %w", o.Ref, errs[i])
		}
	}
	return compact(errs)
}

func (m *Memory) put(ctx context.Context, o Object) error {
	if err := ctx.Err(); err != nil {
		return fault.Down(err)
	}
	if err := Check(o); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	bucket, ok := m.buckets[o.Bucket]
	if !ok {
		return fault.Down(ErrNotFound)
	}
	if _, taken := bucket[o.Key]; taken && o.CreateOnly {
		return ErrExists
	}
	o.ContentType = o.contentType()
	bucket[o.Key] = clone(o)
	m.changed[o.Ref] = m.clock()
	return nil
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, r Ref) (*Object, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	o, err := m.find(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("read object %q: %w", r, err)
	}
	o = clone(o)
	return &o, nil
}

// Stat implements Store.
func (m *Memory) Stat(ctx context.Context, r Ref) (Info, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	o, err := m.find(ctx, r)
	if err != nil {
		return Info{}, fmt.Errorf("look up object %q: %w", r, err)
	}
	return Info{Ref: r, Size: int64(len(o.Body)), Modified: m.changed[r], Meta: maps.Clone(o.Meta)}, nil
}

// find is called with mu held.
func (m *Memory) find(ctx context.Context, r Ref) (Object, error) {
	if err := ctx.Err(); err != nil {
		return Object{}, fault.Down(err)
	}
	o, ok := m.buckets[r.Bucket][r.Key]
	if !ok {
		return Object{}, ErrNotFound
	}
	return o, nil
}

// List implements Store. It shows the bucket as it was when the loop began.
func (m *Memory) List(ctx context.Context, bucket, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		found, err := m.snapshot(ctx, bucket, prefix)
		if err != nil {
			yield(Info{}, fmt.Errorf("list %q in %q: %w", prefix, bucket, err))
			return
		}
		for _, info := range found {
			if err := ctx.Err(); err != nil {
				yield(Info{}, fmt.Errorf("list %q in %q: %w", prefix, bucket, fault.Down(err)))
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (m *Memory) snapshot(ctx context.Context, bucket, prefix string) ([]Info, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.Down(err)
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	objects, ok := m.buckets[bucket]
	if !ok {
		return nil, ErrNotFound
	}
	var found []Info
	for key, o := range objects {
		if strings.HasPrefix(key, prefix) {
			found = append(found, Info{Ref: o.Ref, Size: int64(len(o.Body)), Modified: m.changed[o.Ref]})
		}
	}
	slices.SortFunc(found, func(a, b Info) int { return strings.Compare(a.Key, b.Key) })
	return found, nil
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, r Ref) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete object %q: %w", r, fault.Down(err))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.buckets[r.Bucket], r.Key)
	delete(m.changed, r)
	return nil
}

// Remove implements Store.
func (m *Memory) Remove(ctx context.Context, refs ...Ref) []error {
	errs := make([]error, len(refs))
	for i, r := range refs {
		errs[i] = m.Delete(ctx, r)
	}
	return compact(errs)
}

// EnsureBucket implements Store.
func (m *Memory) EnsureBucket(ctx context.Context, bucket string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("make bucket %q: %w", bucket, fault.Down(err))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.buckets[bucket]; ok {
		return false, nil
	}
	m.buckets[bucket] = map[string]Object{}
	return true, nil
}

// Ready implements Store: memory is always ready.
func (m *Memory) Ready(context.Context) error { return nil }

func clone(o Object) Object {
	o.Body = bytes.Clone(o.Body)
	if o.Body == nil {
		o.Body = []byte{}
	}
	o.Meta = maps.Clone(o.Meta)
	if o.Meta == nil {
		o.Meta = map[string]string{}
	}
	o.CreateOnly = false
	return o
}

// compact returns nil where all errs are nil: the form in which Put reports success.
func compact(errs []error) []error {
	for _, err := range errs {
		if err != nil {
			return errs
		}
	}
	return nil
}
