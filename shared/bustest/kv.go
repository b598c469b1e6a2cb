package bustest

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/topology"
)

func runKV(t *testing.T, newBus Maker) {
	tests := []struct {
		name string
		run  func(t *testing.T, kv bus.KV)
	}{
		{"a key is created, changed and deleted", lives},
		{"a key that exists is not created again", createsOnce},
		{"a change needs the revision that is there", comparesAndSets},
		{"one of many wins", oneWins},
		{"each of many writers is told its revision", numbersAreRight},
		{"a key with a time to live goes and can be created again", expires},
		{"a change may take or give a time to live", changesTTL},
		{"a key that is none is refused", refusesKeys},
		{"a watched key is seen as it is and as it becomes", watches},
		{"a watch sees nothing after it was stopped", stopsWatching},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBus(t, topology.Options{})
			kv, err := b.KV(t.Context(), contract.KVLedger)
			require.NoError(t, err)
			tt.run(t, kv)
		})
		t.Run(tt.name+", gathered", func(t *testing.T) {
			t.Parallel()
			b := newBus(t, topology.Options{})
			kv, err := b.KV(t.Context(), contract.KVLedger)
			require.NoError(t, err)
			tt.run(t, gathering{kv})
		})
	}
}

// gathering is a KV whose writes wait for others.
type gathering struct{ bus.KV }

func (g gathering) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error) {
	return g.KV.Create(bus.Gather(ctx), key, value, ttl)
}

func (g gathering) Update(ctx context.Context, key string, value []byte, rev uint64, ttl time.Duration) (uint64, error) {
	return g.KV.Update(bus.Gather(ctx), key, value, rev, ttl)
}

func (g gathering) Put(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error) {
	return g.KV.Put(bus.Gather(ctx), key, value, ttl)
}

// numbersAreRight creates many keys at the same time: each writer is told the revision of
// its own.
func numbersAreRight(t *testing.T, kv bus.KV) {
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			name := "many." + strconv.Itoa(i)
			rev, err := kv.Create(t.Context(), name, []byte(name), 0)
			if err == nil {
				_, err = kv.Update(t.Context(), name, []byte("second"), rev, 0)
			}
			if err != nil {
				t.Errorf("key %s: %v", name, err)
			}
		})
	}
	all.Wait()
}

const key = "a.b/c=d_e-f"

func lives(t *testing.T, kv bus.KV) {
	_, err := kv.Get(t.Context(), key)
	require.ErrorIs(t, err, bus.ErrNotFound)
	first, err := kv.Create(t.Context(), key, []byte("1"), 0)
	require.NoError(t, err)
	e, err := kv.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, bus.Entry{Value: []byte("1"), Revision: first}, e)
	second, err := kv.Update(t.Context(), key, []byte("2"), first, 0)
	require.NoError(t, err)
	require.Greater(t, second, first)
	third, err := kv.Put(t.Context(), key, nil, 0)
	require.NoError(t, err)
	e, err = kv.Get(t.Context(), key)
	require.NoError(t, err, "an empty value is a value")
	require.Empty(t, e.Value)
	require.Equal(t, third, e.Revision)
	require.NoError(t, kv.Delete(t.Context(), key))
	_, err = kv.Get(t.Context(), key)
	require.ErrorIs(t, err, bus.ErrNotFound)
	require.NoError(t, kv.Delete(t.Context(), key))
	require.NoError(t, kv.Delete(t.Context(), "never.was"))
	_, err = kv.Create(t.Context(), key, []byte("3"), 0)
	require.NoError(t, err, "a deleted key is free")
}

func createsOnce(t *testing.T, kv bus.KV) {
	rev, err := kv.Create(t.Context(), key, []byte("1"), 0)
	require.NoError(t, err)
	for _, ttl := range []time.Duration{0, time.Minute} {
		_, err = kv.Create(t.Context(), key, []byte("2"), ttl)
		require.ErrorIs(t, err, bus.ErrExists)
	}
	e, err := kv.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, bus.Entry{Value: []byte("1"), Revision: rev}, e)
}

func comparesAndSets(t *testing.T, kv bus.KV) {
	rev, err := kv.Create(t.Context(), key, []byte("1"), 0)
	require.NoError(t, err)
	_, err = kv.Update(t.Context(), key, []byte("2"), rev+1, 0)
	require.ErrorIs(t, err, bus.ErrRevision)
	_, err = kv.Update(t.Context(), "other", []byte("2"), rev, 0)
	require.ErrorIs(t, err, bus.ErrRevision)
	require.NoError(t, kv.Delete(t.Context(), key))
	_, err = kv.Update(t.Context(), key, []byte("2"), rev, 0)
	require.ErrorIs(t, err, bus.ErrRevision)
}

func oneWins(t *testing.T, kv bus.KV) {
	require.NoError(t, kv.Delete(t.Context(), key))
	var wg sync.WaitGroup
	errs := make(chan error, 16)
	for range cap(errs) {
		wg.Go(func() {
			_, err := kv.Create(t.Context(), key, []byte("1"), 0)
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	won := 0
	for err := range errs {
		if err == nil {
			won++
		} else {
			require.ErrorIs(t, err, bus.ErrExists)
		}
	}
	require.Equal(t, 1, won)
}

func expires(t *testing.T, kv bus.KV) {
	_, err := kv.Create(t.Context(), key, []byte("1"), time.Second)
	require.NoError(t, err)
	stays, err := kv.Create(t.Context(), "stays", []byte("1"), time.Hour)
	require.NoError(t, err)
	gone(t, kv, key)
	_, err = kv.Create(t.Context(), key, []byte("2"), 1500*time.Millisecond)
	require.NoError(t, err)
	gone(t, kv, key)
	e, err := kv.Get(t.Context(), "stays")
	require.NoError(t, err)
	require.Equal(t, stays, e.Revision)
}

func gone(t *testing.T, kv bus.KV, key string) {
	t.Helper()
	_, err := kv.Get(t.Context(), key)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := kv.Get(t.Context(), key)
		if err != nil {
			require.ErrorIs(t, err, bus.ErrNotFound)
		}
		return err != nil
	}, patience, 20*time.Millisecond)
}

func changesTTL(t *testing.T, kv bus.KV) {
	rev, err := kv.Create(t.Context(), key, []byte("1"), time.Second)
	require.NoError(t, err)
	_, err = kv.Update(t.Context(), key, []byte("2"), rev, 0)
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), "other", []byte("1"), 0)
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), "other", []byte("2"), 2*time.Second)
	require.NoError(t, err)
	gone(t, kv, "other") // one second later than the other would have gone
	e, err := kv.Get(t.Context(), key)
	require.NoError(t, err, "the change took its time to live")
	require.Equal(t, "2", string(e.Value))
}

func refusesKeys(t *testing.T, kv bus.KV) {
	for _, bad := range []string{"", ".", "a.", ".a", "a..b", "*", "a.>", "a b", "a~b", "ä", strings.Repeat("a", 3) + "\n"} {
		_, err := kv.Put(t.Context(), bad, []byte("1"), 0)
		require.ErrorIs(t, err, bus.ErrKey, "%q", bad)
		_, err = kv.Get(t.Context(), bad)
		require.ErrorIs(t, err, bus.ErrKey, "%q", bad)
	}
}

func watches(t *testing.T, kv bus.KV) {
	seen := make(chan bus.Entry, 16)
	w, err := kv.Watch(t.Context(), key, func(e bus.Entry) { seen <- e })
	require.NoError(t, err)
	defer w.Stop()
	require.Len(t, seen, 1, "what is there is seen before the call returns")
	require.Equal(t, bus.Entry{}, <-seen)

	rev, err := kv.Create(t.Context(), key, []byte("1"), 0)
	require.NoError(t, err)
	require.Equal(t, bus.Entry{Value: []byte("1"), Revision: rev}, shown(t, seen))
	_, err = kv.Update(t.Context(), key, []byte("refused"), rev+7, 0)
	require.ErrorIs(t, err, bus.ErrRevision)
	_, err = kv.Put(t.Context(), "other", []byte("1"), 0)
	require.NoError(t, err)
	next, err := kv.Update(t.Context(), key, []byte("2"), rev, 0)
	require.NoError(t, err)
	require.Equal(t, bus.Entry{Value: []byte("2"), Revision: next}, shown(t, seen), "neither a refused write nor another key is seen")
	require.NoError(t, kv.Delete(t.Context(), key))
	require.Zero(t, shown(t, seen).Revision, "it is gone")

	late := make(chan bus.Entry, 1)
	_, err = kv.Put(t.Context(), key, []byte("3"), 0)
	require.NoError(t, err)
	second, err := kv.Watch(t.Context(), key, func(e bus.Entry) { late <- e })
	require.NoError(t, err)
	defer second.Stop()
	require.Equal(t, "3", string((<-late).Value))
	_, err = kv.Watch(t.Context(), "a..b", func(bus.Entry) {})
	require.ErrorIs(t, err, bus.ErrKey)
}

func stopsWatching(t *testing.T, kv bus.KV) {
	stopped := make(chan bus.Entry, 16)
	w, err := kv.Watch(t.Context(), key, func(e bus.Entry) { stopped <- e })
	require.NoError(t, err)
	w.Stop()
	w.Stop()
	running := make(chan bus.Entry, 16)
	other, err := kv.Watch(t.Context(), key, func(e bus.Entry) { running <- e })
	require.NoError(t, err)
	defer other.Stop()
	_, err = kv.Put(t.Context(), key, []byte("1"), 0)
	require.NoError(t, err)
	shown(t, running)
	shown(t, running)
	require.Len(t, stopped, 1, "only what was there before")
}

// shown waits for what a watch sees next.
func shown(t *testing.T, seen <-chan bus.Entry) bus.Entry {
	t.Helper()
	select {
	case e := <-seen:
		return e
	case <-time.After(patience):
		require.FailNow(t, "the change is not seen")
		return bus.Entry{}
	}
}
