package sim

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/fault"
)

// faultyBus is the broker as a stage of one life sees it.
type faultyBus struct {
	bus.Bus
	*layer
}

// about is what a call with headers is about.
func about(subject string, h bus.Header) string { return subject + " " + h[contract.HeaderFileID] }

func (b *faultyBus) Publish(ctx context.Context, m bus.Message) (bus.Receipt, error) {
	return call(ctx, b.layer, opPublish, about(m.Subject, m.Header), func(ctx context.Context) (bus.Receipt, error) {
		if b.world.full() && !strings.HasPrefix(m.Subject, contract.RootResult) {
			return bus.Receipt{}, fault.Down(fmt.Errorf("publish to %q: %w", m.Subject, bus.ErrFull))
		}
		b.world.published(context.WithoutCancel(ctx), m)
		if b.world.bug == noMessageID {
			m.ID = ""
		}
		return b.Bus.Publish(ctx, m)
	})
}

func (b *faultyBus) Announce(subject string, h bus.Header, body []byte) error {
	if b.life.isDead() || b.life.thaws() > 0 || b.world.out(opPublish) {
		return errRefused
	}
	return b.Bus.Announce(subject, h, body)
}

func (b *faultyBus) Listen(filter string, fn func(string, bus.Header, []byte)) (func(), error) {
	stop, err := b.Bus.Listen(filter, func(subject string, h bus.Header, body []byte) {
		if !b.life.isDead() {
			fn(subject, h, body)
		}
	})
	if err != nil {
		return nil, err
	}
	return sync.OnceFunc(stop), nil
}

func (b *faultyBus) Schedule(ctx context.Context, m bus.Message, at time.Time, target string) error {
	return b.do(ctx, opSchedule, about(m.Subject, m.Header), func(ctx context.Context) error {
		return b.Bus.Schedule(ctx, m, at, target)
	})
}

func (b *faultyBus) Get(ctx context.Context, stream string, seq uint64) (*bus.Stored, error) {
	return call(ctx, b.layer, opRead, stream, func(ctx context.Context) (*bus.Stored, error) {
		return b.Bus.Get(ctx, stream, seq)
	})
}

func (b *faultyBus) SeqAt(ctx context.Context, stream string, t time.Time) (uint64, error) {
	return call(ctx, b.layer, opRead, stream, func(ctx context.Context) (uint64, error) {
		return b.Bus.SeqAt(ctx, stream, t)
	})
}

func (b *faultyBus) Scan(ctx context.Context, stream, filter string, from uint64) iter.Seq2[*bus.Stored, error] {
	return func(yield func(*bus.Stored, error) bool) {
		if err := b.do(ctx, opRead, stream, func(context.Context) error { return nil }); err != nil {
			yield(nil, err)
			return
		}
		b.Bus.Scan(ctx, stream, filter, from)(yield)
	}
}

func (b *faultyBus) Delete(ctx context.Context, stream string, seq uint64) error {
	return b.do(ctx, opWrite, stream, func(ctx context.Context) error { return b.Bus.Delete(ctx, stream, seq) })
}

// KV does not wait: callers bind under a lock.
func (b *faultyBus) KV(ctx context.Context, bucket string) (bus.KV, error) {
	if b.life.isDead() {
		return nil, errDead
	}
	if b.world.out(opRead) {
		return nil, errRefused
	}
	kv, err := b.Bus.KV(ctx, bucket)
	return &faultyKV{KV: kv, layer: b.layer, bucket: bucket}, err
}

func (b *faultyBus) Ready(ctx context.Context) error {
	if b.life.isDead() || b.world.out(opRead) {
		return errRefused
	}
	return b.Bus.Ready(ctx)
}

// faultyKV is a bucket of the broker as a stage of one life sees it.
type faultyKV struct {
	bus.KV
	*layer

	bucket string
}

func (k *faultyKV) about(key string) string { return k.bucket + " " + key }

func (k *faultyKV) Get(ctx context.Context, key string) (bus.Entry, error) {
	return call(ctx, k.layer, opRead, k.about(key), func(ctx context.Context) (bus.Entry, error) {
		if k.world.bug == noLedger && k.bucket == contract.KVLedger {
			return bus.Entry{}, fmt.Errorf("read key %q: %w", key, bus.ErrNotFound)
		}
		return k.KV.Get(ctx, key)
	})
}

func (k *faultyKV) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error) {
	return call(ctx, k.layer, opWrite, k.about(key), func(ctx context.Context) (uint64, error) {
		if k.loose() {
			return k.KV.Put(ctx, key, value, ttl)
		}
		return k.KV.Create(ctx, key, value, ttl)
	})
}

func (k *faultyKV) Update(ctx context.Context, key string, value []byte, rev uint64, ttl time.Duration) (uint64, error) {
	return call(ctx, k.layer, opWrite, k.about(key), func(ctx context.Context) (uint64, error) {
		if k.loose() {
			return k.KV.Put(ctx, key, value, ttl)
		}
		return k.KV.Update(ctx, key, value, rev, ttl)
	})
}

// loose says that this bucket compares nothing before it sets: a seeded bug.
func (k *faultyKV) loose() bool {
	switch k.world.bug {
	case noLedger:
		return k.bucket == contract.KVLedger
	case noCompare:
		return k.bucket == contract.KVJoin
	default:
		return false
	}
}

func (k *faultyKV) Put(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error) {
	return call(ctx, k.layer, opWrite, k.about(key), func(ctx context.Context) (uint64, error) {
		return k.KV.Put(ctx, key, value, ttl)
	})
}

func (k *faultyKV) Delete(ctx context.Context, key string) error {
	return k.do(ctx, opWrite, k.about(key), func(ctx context.Context) error { return k.KV.Delete(ctx, key) })
}
