package stage

import (
	"context"
	"fmt"
	"math"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/jobspy/millrace/shared/slot"
)

// everybody is more than there ever are attempts at one time.
const everybody = math.MaxInt64

// turns lets attempts run beside each other, or one while no other does. Who asks first is
// let in first, so that nobody waits for ever. The zero value is ready for use.
//
// It is no sync.RWMutex: a stage that stops need not wait for its turn, and time stands still
// in a testing/synctest bubble while somebody waits for a mutex. Who waits for a turn gives his
// slot back meanwhile, or whoever runs alone would get none any more once he has waited for the
// broker.
type turns struct {
	once sync.Once
	all  *semaphore.Weighted
}

// beside waits until nobody runs alone; done ends the turn. Error: ctx ended.
func (t *turns) beside(ctx context.Context) (done func(), err error) { return t.take(ctx, 1) }

// alone waits until nobody else runs; done ends the turn. Error: ctx ended.
func (t *turns) alone(ctx context.Context) (done func(), err error) { return t.take(ctx, everybody) }

func (t *turns) take(ctx context.Context, n int64) (func(), error) {
	t.once.Do(func() { t.all = semaphore.NewWeighted(everybody) })
	if !t.all.TryAcquire(n) {
		resume := slot.Pause(ctx)
		err := t.all.Acquire(ctx, n)
		resume()
		if err != nil {
			return nil, fmt.Errorf("wait for a turn: %w", context.Cause(ctx))
		}
	}
	return func() { t.all.Release(n) }, nil
}
