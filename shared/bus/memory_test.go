package bus_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/topology"
)

func TestMemoryKeepsToTheTimeOfABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		plan := topology.Plan(topology.Options{})
		b := bus.NewMemory(plan.Streams, plan.Buckets)
		require.NoError(t, topology.StartMemory(t.Context(), b, plan))
		var mu sync.Mutex
		var got []bus.Delivery
		collect := func(d bus.Delivery) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, d)
		}
		take := func() []bus.Delivery {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			out := got
			got = nil
			return out
		}
		pass := func(d time.Duration) { <-time.After(d) }
		_, err := b.Consume(t.Context(), stream, consumer, 2, collect)
		require.NoError(t, err)
		_, err = b.Consume(t.Context(), contract.StreamRetry, contract.DueConsumer(contract.Validate), 2, collect)
		require.NoError(t, err)

		_, err = b.Publish(t.Context(), message("1"))
		require.NoError(t, err)
		require.Len(t, take(), 1)
		pass(topology.DefaultAckWait - time.Nanosecond)
		require.Empty(t, take())
		pass(time.Nanosecond)
		again := take()
		require.Len(t, again, 1)
		require.Equal(t, 2, again[0].Count())
		require.NoError(t, again[0].Ack(t.Context()))

		m := bus.Message{Subject: contract.RetrySubject(contract.Validate, "a", 0), Body: []byte("1")}
		require.NoError(t, b.Schedule(t.Context(), m, time.Now().Add(24*time.Hour), contract.DueSubject(contract.Validate, contract.Low)))
		pass(24*time.Hour - time.Nanosecond)
		require.Empty(t, take())
		pass(time.Nanosecond)
		require.Len(t, take(), 1)

		kv, err := b.KV(t.Context(), contract.KVLedger)
		require.NoError(t, err)
		_, err = kv.Create(t.Context(), "a", []byte("1"), 48*time.Hour)
		require.NoError(t, err)
		pass(48*time.Hour - time.Nanosecond)
		_, err = kv.Get(t.Context(), "a")
		require.NoError(t, err)
		pass(time.Nanosecond)
		synctest.Wait()
		_, err = kv.Get(t.Context(), "a")
		require.ErrorIs(t, err, bus.ErrNotFound)
		require.NoError(t, b.Close())
		require.Error(t, b.Ready(t.Context()))
	})
}
