package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/store"
)

// slow is a Memory that takes a while for each call and remembers the calls.
type slow struct {
	*store.Memory
	takes time.Duration

	mu    sync.Mutex
	calls [][]string
	fails error
}

func newSlow(t *testing.T, takes time.Duration) *slow {
	t.Helper()
	s := &slow{Memory: store.NewMemory(nil), takes: takes}
	for _, b := range []string{"a", "b"} {
		_, err := s.EnsureBucket(t.Context(), b)
		require.NoError(t, err)
	}
	return s
}

func (s *slow) Put(ctx context.Context, objects ...store.Object) []error {
	var keys []string
	for _, o := range objects {
		keys = append(keys, o.String())
	}
	s.mu.Lock()
	s.calls = append(s.calls, keys)
	fails := s.fails
	s.mu.Unlock()
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		fails = context.Cause(ctx)
	}
	if fails != nil {
		errs := make([]error, len(objects))
		for i := range errs {
			errs[i] = fails
		}
		return errs
	}
	return s.Memory.Put(ctx, objects...)
}

func object(bucket, key, body string) store.Object {
	return store.Object{Ref: store.Ref{Bucket: bucket, Key: key}, Body: []byte(body)}
}

func closeWriter(t *testing.T, w *store.Writer) {
	t.Helper()
	require.NoError(t, w.Close(t.Context()))
}

func TestWriterWaitsForNothingWhenIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(t, time.Millisecond)
		w := store.NewWriter(s, store.WriterSettings{Linger: time.Hour})
		began := time.Now()
		for i := range 5 {
			require.Nil(t, w.Put(t.Context(), object("a", fmt.Sprint(i), "x")))
		}
		require.Equal(t, 5*time.Millisecond, time.Since(began))
		closeWriter(t, w)
	})
}

func TestWriterGathersWhileItWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(t, 100*time.Millisecond)
		w := store.NewWriter(s, store.WriterSettings{Flushers: 2, Linger: 5 * time.Millisecond})
		var all sync.WaitGroup
		put := func(key string) {
			all.Go(func() { require.Nil(t, w.Put(t.Context(), object("a", key, "x"))) })
		}
		began := time.Now()
		put("first")
		synctest.Wait()
		for i := range 10 {
			put(fmt.Sprint(i))
		}
		all.Wait()
		require.Len(t, s.calls, 2, "one for the first, one for all that came meanwhile")
		require.Len(t, s.calls[1], 10)
		require.Equal(t, 105*time.Millisecond, time.Since(began), "the linger and one call")
		closeWriter(t, w)
	})
}

func TestWriterLingersNoLongerThanNeeded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(t, 10*time.Millisecond)
		w := store.NewWriter(s, store.WriterSettings{Flushers: 2, Linger: time.Hour, BatchObjects: 3})
		var all sync.WaitGroup
		put := func(key string) {
			all.Go(func() { require.Nil(t, w.Put(t.Context(), object("a", key, "x"))) })
		}
		began := time.Now()
		put("first")
		synctest.Wait()
		put("second")
		all.Wait()
		require.Equal(t, 20*time.Millisecond, time.Since(began), "the second went when the first was done")

		put("1")
		synctest.Wait()
		for i := range 3 {
			put(fmt.Sprint("full ", i))
		}
		all.Wait()
		require.Equal(t, 30*time.Millisecond, time.Since(began), "a full batch does not wait")
		closeWriter(t, w)
	})
}

func TestWriterKeepsACallTogetherAndBucketsApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(t, time.Millisecond)
		w := store.NewWriter(s, store.WriterSettings{Flushers: 1, BatchObjects: 4, BatchBytes: 100})
		var all sync.WaitGroup
		put := func(objects ...store.Object) {
			all.Go(func() { require.Nil(t, w.Put(t.Context(), objects...)) })
			synctest.Wait()
		}
		put(object("a", "first", "x"))
		put(object("a", "1", "x"), object("b", "1", "x"), object("a", "2", "x"), object("a", "3", "x"))
		put(object("a", "4", "x"), object("a", "5", "x"))
		put(object("a", "large", string(make([]byte, 200))))
		all.Wait()
		require.ElementsMatch(t, [][]string{
			{"a/first"},
			{"a/1", "a/2", "a/3"}, // with the next call it would be five
			{"b/1"},
			{"a/4", "a/5"},
			{"a/large"},
		}, s.calls)
		closeWriter(t, w)
	})
}

func TestWriterGivesEachCallerItsOwnResults(t *testing.T) {
	t.Parallel()
	s := newSlow(t, 0)
	w := store.NewWriter(s, store.WriterSettings{})
	require.Nil(t, w.Put(t.Context(), object("a", "taken", "old")))
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			taken := object("a", "taken", "new")
			taken.CreateOnly = true
			errs := w.Put(t.Context(),
				object("b", fmt.Sprint(i), "x"), taken, object("none", "x", "x"), object("a", fmt.Sprint(i), "x"))
			require.Len(t, errs, 4)
			require.NoError(t, errs[0])
			require.ErrorIs(t, errs[1], store.ErrExists)
			require.Equal(t, fault.Unavailable, fault.Of(errs[2]).Kind)
			require.NoError(t, errs[3])
		})
	}
	all.Wait()
	closeWriter(t, w)
	stats := w.Stats()
	require.Equal(t, uint64(101), stats.Objects)
	require.Equal(t, uint64(103), stats.Bytes)
	require.Equal(t, uint64(100), stats.Errors)
	require.NotZero(t, stats.Batches)
	require.Zero(t, stats.Backlog)
}

func TestWriterMakesCallersWaitWhereTheBacklogIsFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(t, time.Second)
		w := store.NewWriter(s, store.WriterSettings{Flushers: 1, BacklogObjects: 4, BacklogBytes: 100})
		var all sync.WaitGroup
		for i := range 6 {
			all.Go(func() { require.Nil(t, w.Put(t.Context(), object("a", fmt.Sprint(i), "x"))) })
			synctest.Wait()
		}
		require.Equal(t, 4, w.Stats().Backlog)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		errs := w.Put(ctx, object("a", "late", "x"))
		require.ErrorIs(t, errs[0], context.DeadlineExceeded)
		require.Equal(t, fault.Unavailable, fault.Of(errs[0]).Kind)
		all.Go(func() {
			require.Nil(t, w.Put(t.Context(), object("a", "huge", string(make([]byte, 1000)))), "more than the whole backlog")
		})
		all.Wait()
		_, err := w.Get(t.Context(), store.Ref{Bucket: "a", Key: "late"})
		require.ErrorIs(t, err, store.ErrNotFound)
		closeWriter(t, w)
	})
}

func TestWriterForgetsWhatNobodyWaitsForAnyMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(t, time.Second)
		w := store.NewWriter(s, store.WriterSettings{Flushers: 1})
		var all sync.WaitGroup
		all.Go(func() { require.Nil(t, w.Put(t.Context(), object("a", "first", "x"))) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		errs := w.Put(ctx, object("a", "dropped", "x"))
		require.ErrorIs(t, errs[0], context.DeadlineExceeded)
		all.Wait()
		closeWriter(t, w)
		require.Equal(t, [][]string{{"a/first"}}, s.calls)
		require.Zero(t, w.Stats().Backlog)
	})
}

func TestWriterClose(t *testing.T) {
	t.Parallel()
	t.Run("writes what was handed over and takes nothing more", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newSlow(t, time.Second)
			w := store.NewWriter(s, store.WriterSettings{Flushers: 1, Linger: time.Hour})
			var all sync.WaitGroup
			for i := range 3 {
				all.Go(func() { require.Nil(t, w.Put(t.Context(), object("a", fmt.Sprint(i), "x"))) })
				synctest.Wait()
			}
			closeWriter(t, w)
			all.Wait()
			require.Equal(t, uint64(3), w.Stats().Objects)
			errs := w.Put(t.Context(), object("a", "late", "x"))
			require.ErrorIs(t, errs[0], store.ErrClosed)
			require.Equal(t, fault.Unavailable, fault.Of(errs[0]).Kind)
			closeWriter(t, w)
		})
	})
	t.Run("gives up when its time is over", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newSlow(t, time.Hour)
			w := store.NewWriter(s, store.WriterSettings{})
			var all sync.WaitGroup
			all.Go(func() { require.ErrorIs(t, w.Put(t.Context(), object("a", "k", "x"))[0], context.DeadlineExceeded) })
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			require.ErrorIs(t, w.Close(ctx), context.DeadlineExceeded)
			require.Equal(t, time.Second, time.Since(began))
			all.Wait()
		})
	})
}

func TestWriterPassesAFailureToAllOfABatch(t *testing.T) {
	t.Parallel()
	s := newSlow(t, 0)
	s.fails = fault.Down(errors.New("store is gone"))
	w := store.NewWriter(s, store.WriterSettings{})
	for _, err := range w.Put(t.Context(), object("a", "1", "x"), object("a", "2", "x")) {
		require.ErrorContains(t, err, "store is gone")
		require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
	}
	closeWriter(t, w)
	require.Equal(t, uint64(2), w.Stats().Errors)
}

func TestWriterLetsNoUrgentObjectWaitBehindABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(t, time.Second)
		w := store.NewWriter(s, store.WriterSettings{Flushers: 1, BatchObjects: 2, Linger: time.Hour})
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() { require.Nil(t, w.Put(t.Context(), object("a", fmt.Sprint(i), "x"))) })
		}
		synctest.Wait()
		began := time.Now()
		require.Nil(t, w.Put(store.Urgent(t.Context()), object("a", "urgent", "x")))
		require.Equal(t, time.Second, time.Since(began), "its own call and nothing else")
		all.Wait()
		closeWriter(t, w)
	})
}
