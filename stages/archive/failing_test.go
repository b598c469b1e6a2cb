package archive

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/store"
)

var errKilled = fault.Down(errors.New("killed"))

// failing counts the calls to the store and the key-value buckets together and lets those
// from number from to number to fail, either instead of their effect or after it.
type failing struct {
	store.Store
	calls    atomic.Int64
	from, to int64
	after    bool
	writes   bool // only writes are counted
}

// look makes a call that changes nothing.
func (f *failing) look(call func() error) error {
	if !f.writes {
		return f.run(call)
	}
	if n := f.calls.Load(); n >= f.from && n <= f.to {
		return errKilled
	}
	return call()
}

// run makes a call, or fails it.
func (f *failing) run(call func() error) error {
	n := f.calls.Add(1)
	if n < f.from || n > f.to {
		return call()
	}
	if f.after && n == f.from { // the effect is there, the answer is not
		_ = call() //nolint:errcheck // nobody learns of it
	}
	return errKilled
}

func (f *failing) Put(ctx context.Context, objects ...store.Object) []error {
	var errs []error
	if err := f.run(func() error { errs = f.Store.Put(ctx, objects...); return nil }); err != nil {
		errs = make([]error, len(objects))
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}

func (f *failing) Get(ctx context.Context, r store.Ref) (o *store.Object, err error) {
	if end := f.look(func() error { o, err = f.Store.Get(ctx, r); return nil }); end != nil {
		return nil, end
	}
	return o, err
}

func (f *failing) Stat(ctx context.Context, r store.Ref) (i store.Info, err error) {
	if end := f.look(func() error { i, err = f.Store.Stat(ctx, r); return nil }); end != nil {
		return store.Info{}, end
	}
	return i, err
}

// failingBus is the bus side of a failing.
type failingBus struct {
	bus.Bus
	f *failing
}

func (b failingBus) KV(ctx context.Context, name string) (bus.KV, error) {
	kv, err := b.Bus.KV(ctx, name)
	return failingKV{kv, b.f}, err
}

type failingKV struct {
	bus.KV
	f *failing
}

func (k failingKV) Get(ctx context.Context, key string) (e bus.Entry, err error) {
	if end := k.f.look(func() error { e, err = k.KV.Get(ctx, key); return nil }); end != nil {
		return bus.Entry{}, end
	}
	return e, err
}

func (k failingKV) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (rev uint64, err error) {
	if end := k.f.run(func() error { rev, err = k.KV.Create(ctx, key, value, ttl); return nil }); end != nil {
		return 0, end
	}
	return rev, err
}

func (k failingKV) Update(ctx context.Context, key string, value []byte, old uint64, ttl time.Duration) (rev uint64, err error) {
	if end := k.f.run(func() error { rev, err = k.KV.Update(ctx, key, value, old, ttl); return nil }); end != nil {
		return 0, end
	}
	return rev, err
}

func (k failingKV) Put(ctx context.Context, key string, value []byte, ttl time.Duration) (rev uint64, err error) {
	if end := k.f.run(func() error { rev, err = k.KV.Put(ctx, key, value, ttl); return nil }); end != nil {
		return 0, end
	}
	return rev, err
}

func (k failingKV) Delete(ctx context.Context, key string) (err error) {
	if end := k.f.run(func() error { err = k.KV.Delete(ctx, key); return nil }); end != nil {
		return end
	}
	return err
}

// pass lets time go by in a synctest bubble.
func pass(d time.Duration) { <-time.After(d) }

// Info implements bus.Bus.
func (b lateBus) Info(ctx context.Context, stream string) (bus.Info, error) {
	info, err := b.Bus.Info(ctx, stream)
	info.LastSeq = b.late.Seq
	return info, err
}

// Scan implements bus.Bus.
func (b lateBus) Scan(ctx context.Context, stream, filter string, from uint64) iter.Seq2[*bus.Stored, error] {
	return func(yield func(*bus.Stored, error) bool) {
		for m, err := range b.Bus.Scan(ctx, stream, filter, from) {
			if !yield(m, err) {
				return
			}
		}
		if from <= b.late.Seq {
			yield(b.late, nil)
		}
	}
}

// Remove implements store.Store.
func (f *failing) Remove(ctx context.Context, refs ...store.Ref) []error {
	var errs []error
	if err := f.run(func() error { errs = f.Store.Remove(ctx, refs...); return nil }); err != nil {
		errs = make([]error, len(refs))
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}
