package bus

import (
	"context"
	"sync"
)

// Bound is a key-value bucket that is bound to when it is needed first, so that whoever uses
// it may start before it is made. It may be used concurrently.
type Bound struct {
	bus    Bus
	bucket string

	mu sync.Mutex
	kv KV // nil until it was bound
}

// Bind returns the bucket of b with the given name. It asks nothing yet.
func Bind(b Bus, bucket string) *Bound { return &Bound{bus: b, bucket: bucket} }

// KV returns the bucket. Errors are those of Bus.KV; the next call tries again.
func (b *Bound) KV(ctx context.Context) (KV, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kv == nil {
		kv, err := b.bus.KV(ctx, b.bucket)
		if err != nil {
			return nil, err
		}
		b.kv = kv
	}
	return b.kv, nil
}
