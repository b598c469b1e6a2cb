package letters

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/fault"
)

var errKilled = fault.Down(errors.New("killed"))

// dying is a bus that ends with one of its writes: that one and all that follow fail, the first
// either instead of its effect or after it.
type dying struct {
	bus.Bus
	left  atomic.Int64
	after bool
}

func (d *dying) run(write func() error) error {
	switch left := d.left.Add(-1); {
	case left > 0:
		return write()
	case left == 0 && d.after:
		_ = write() //nolint:errcheck // nobody learns of it
	}
	return errKilled
}

func (d *dying) Publish(ctx context.Context, m bus.Message) (r bus.Receipt, err error) {
	err = d.run(func() (err error) { r, err = d.Bus.Publish(ctx, m); return err })
	return r, err
}

func (d *dying) Delete(ctx context.Context, stream string, seq uint64) error {
	return d.run(func() error { return d.Bus.Delete(ctx, stream, seq) })
}

func (d *dying) KV(ctx context.Context, name string) (bus.KV, error) {
	kv, err := d.Bus.KV(ctx, name)
	return dyingKV{kv, d}, err
}

type dyingKV struct {
	bus.KV
	d *dying
}

func (k dyingKV) Update(ctx context.Context, key string, value []byte, old uint64, ttl time.Duration) (rev uint64, err error) {
	err = k.d.run(func() (err error) { rev, err = k.KV.Update(ctx, key, value, old, ttl); return err })
	return rev, err
}

func (k dyingKV) Put(ctx context.Context, key string, value []byte, ttl time.Duration) (rev uint64, err error) {
	err = k.d.run(func() (err error) { rev, err = k.KV.Put(ctx, key, value, ttl); return err })
	return rev, err
}

func (k dyingKV) Delete(ctx context.Context, key string) error {
	return k.d.run(func() error { return k.KV.Delete(ctx, key) })
}

func TestAJobThatIsBrokenOffAnywhereSendsNothingTwice(t *testing.T) {
	t.Parallel()
	const letters = 5
	for _, late := range []time.Duration{time.Second, 30 * time.Minute} { // within the time of message ids, and after it
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s later, after the effect: %v", late, after), func(t *testing.T) {
				t.Parallel()
				ended := false
				for at := int64(1); !ended; at++ {
					synctest.Test(t, func(t *testing.T) {
						w := setupJobs(t, letters)
						id := w.create(Plan{Canary: 2}).ID
						d := &dying{Bus: w.mill, after: after}
						d.left.Store(at)
						err := w.executor(d).Turn(t.Context(), id, time.Now().Add(time.Minute))
						ended = err == nil
						time.Sleep(late) //nolint:forbidigo // it is the clock of the test
						j := w.turn(id)
						require.Equal(t, JobDone, j.State, "write %d", at)
						require.Equal(t, []int{letters, letters, 0, 0}, []int{j.Sent, j.Completed, j.Failed, j.Skipped}, "write %d", at)
						require.Len(t, w.mill.sent, letters, "write %d", at)
						for sent, n := range w.mill.sent {
							require.Equal(t, 1, n, "write %d: %s", at, sent)
						}
						require.Zero(t, w.left())
						require.Zero(t, w.timers())
					})
				}
			})
		}
	}
}

func TestAReplayThatIsUnderWayUnmarkedIsNotSentAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := setupJobs(t, 3)
		w.mill.holds = true
		id := w.create(Plan{}).ID
		d := &dying{Bus: w.mill, after: true}
		d.left.Store(2) // the state, and then a publish
		require.Error(t, w.executor(d).Turn(t.Context(), id, time.Now().Add(time.Minute)))
		require.Len(t, w.mill.sent, 1)
		time.Sleep(30 * time.Minute) //nolint:forbidigo // it is the clock of the test
		require.Equal(t, 3, w.turn(id).Sent)
		for sent, n := range w.mill.sent {
			require.Equal(t, 1, n, sent)
		}
	})
}

func TestTurnsAtTheSameTimeSendNothingTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := setupJobs(t, 300)
		id := w.create(Plan{Canary: 10}).ID
		done := make(chan error, 3)
		for range cap(done) {
			e := w.executor(w.mill)
			go func() { done <- e.Turn(context.WithoutCancel(t.Context()), id, time.Now().Add(time.Minute)) }()
		}
		for range cap(done) {
			require.NoError(t, <-done)
		}
		j := w.job(id)
		require.Equal(t, JobDone, j.State)
		require.Equal(t, []int{300, 300}, []int{j.Sent, j.Completed})
		for sent, n := range w.mill.sent {
			require.Equal(t, 1, n, sent)
		}
	})
}
