package embedded

import (
	"bytes"
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/jobspy/millrace/shared/store"
)

// TestNothingReturnsBeforeASyncThatBeganAfterTheWrite records, for each way to write, when
// the object could first be read and which sync the write waited for. It does not run beside
// other tests, which sync too.
func TestNothingReturnsBeforeASyncThatBeganAfterTheWrite(t *testing.T) { //nolint:paralleltest // see above
	c := raw(t)
	b := bucket(t, shared.Store())
	body := []byte("durable")
	put := func(ctx context.Context, key string, opts minio.PutObjectOptions) error {
		_, err := c.PutObject(ctx, b, key, bytes.NewReader(body), int64(len(body)), opts)
		return err
	}
	ways := map[string]func(ctx context.Context, key string) error{
		"over http": func(ctx context.Context, key string) error { return put(ctx, key, minio.PutObjectOptions{}) },
		"in process": func(ctx context.Context, key string) error {
			return errors.Join(shared.Store().Put(ctx, store.Object{Ref: store.Ref{Bucket: b, Key: key}, Body: body})...)
		},
		"as a copy": func(ctx context.Context, key string) error {
			_, err := c.CopyObject(ctx, minio.CopyDestOptions{Bucket: b, Object: key}, minio.CopySrcOptions{Bucket: b, Object: "src"})
			return err
		},
		"in parts": func(ctx context.Context, key string) error {
			large := bytes.Repeat([]byte("x"), 6<<20)
			_, err := c.PutObject(ctx, b, key, bytes.NewReader(large), int64(len(large)), minio.PutObjectOptions{PartSize: 5 << 20})
			return err
		},
	}
	require.NoError(t, put(t.Context(), "src", minio.PutObjectOptions{}))
	for name, write := range ways {
		t.Run(name, func(t *testing.T) { //nolint:paralleltest // see above
			key := "k " + name
			// Each sync notes whether the object was there when it began. The first ones are made
			// to wait, so that a write that did not wait for its own would return meanwhile.
			var there atomic.Bool
			release := make(chan struct{})
			hold := func() error {
				_, err := os.Stat(shared.path(b, key))
				<-release
				if err == nil {
					there.Store(true)
				}
				return nil
			}
			syncs.hold.Store(&hold)
			defer syncs.hold.Store(nil)
			began := syncs.began.Load()
			done := make(chan error, 1)
			go func() { done <- write(t.Context(), key) }()
			require.Eventually(t, func() bool { return syncs.began.Load() > began }, 10*time.Second, time.Millisecond)
			select {
			case err := <-done:
				t.Fatalf("returned (%v) while the sync was under way", err)
			default:
			}
			close(release)
			require.NoError(t, <-done)
			require.True(t, there.Load(), "no sync began after the object was there")
		})
	}
}

func TestThreeViewsTakeOneSync(t *testing.T) { //nolint:paralleltest // others sync too
	b := bucket(t, shared.Store())
	before := syncs.began.Load()
	require.Nil(t, shared.Store().Put(t.Context(), views(b, "d.json", "x")...))
	require.Equal(t, before+1, syncs.began.Load())
}

func TestGroupSync(t *testing.T) {
	t.Parallel()
	t.Run("who comes while a sync runs shares the next one", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			count := 0
			g := newGroupSync(0, func() error { count++; <-time.After(10 * time.Millisecond); return nil })
			var all sync.WaitGroup
			all.Go(func() { require.NoError(t, g.join(t.Context(), 1)) })
			synctest.Wait()
			began := time.Now()
			for range 50 {
				all.Go(func() { require.NoError(t, g.join(t.Context(), 1)) })
			}
			all.Wait()
			require.Equal(t, 2, count)
			require.Equal(t, 20*time.Millisecond, time.Since(began), "the rest of the first and one more")
			g.close()
		})
	})
	t.Run("one that joins during a sync does not return with it", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			steps := make(chan struct{})
			g := newGroupSync(0, func() error { <-steps; return nil })
			var first, second atomic.Bool
			go func() { _ = g.join(context.Background(), 1); first.Store(true) }()
			synctest.Wait()
			go func() { _ = g.join(context.Background(), 1); second.Store(true) }()
			synctest.Wait()
			steps <- struct{}{}
			synctest.Wait()
			require.True(t, first.Load())
			require.False(t, second.Load())
			steps <- struct{}{}
			synctest.Wait()
			require.True(t, second.Load())
			g.close()
		})
	})
}

func TestGroupSyncGap(t *testing.T) {
	t.Parallel()
	// pair lets one object join, and while its sync runs two more, and returns how long these took.
	pair := func(t *testing.T, g *groupSync, ctx context.Context) time.Duration {
		require.NoError(t, g.join(ctx, 1))
		synctest.Wait()
		began := time.Now()
		var all sync.WaitGroup
		all.Go(func() { require.NoError(t, g.join(ctx, 1)) })
		synctest.Wait()
		all.Go(func() { require.NoError(t, g.join(ctx, 1)) })
		all.Wait()
		return time.Since(began)
	}
	quick := func() error { <-time.After(time.Millisecond); return nil }
	t.Run("while little is written nothing waits", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			g := newGroupSync(20*time.Millisecond, quick)
			require.Equal(t, 2*time.Millisecond, pair(t, g, t.Context()))
			g.close()
		})
	})
	t.Run("while much is written the gap holds, but not for what is urgent", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			g := newGroupSync(20*time.Millisecond, quick)
			require.NoError(t, g.join(t.Context(), 100_000))
			began := time.Now()
			require.NoError(t, g.join(t.Context(), 100_000))
			require.Equal(t, 20*time.Millisecond, time.Since(began))
			began = time.Now()
			require.NoError(t, g.join(store.Urgent(t.Context()), 1))
			require.Equal(t, time.Millisecond, time.Since(began))
			g.close()
		})
	})
	t.Run("a failed sync fails all that waited for it", func(t *testing.T) {
		t.Parallel()
		broken := errors.New("disk is gone")
		g := newGroupSync(0, func() error { return broken })
		require.ErrorIs(t, g.join(t.Context(), 1), broken)
		g.close()
		require.ErrorIs(t, g.join(t.Context(), 1), errStopped)
		g.close()
	})
	t.Run("a caller may give up", func(t *testing.T) {
		t.Parallel()
		release := make(chan struct{})
		g := newGroupSync(0, func() error { <-release; return nil })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, g.join(ctx, 1), context.Canceled)
		close(release)
		g.close()
	})
}

func TestFoldersWithoutAttributesAreRefused(t *testing.T) {
	t.Parallel()
	if err := unix.Access("/proc/self", unix.F_OK); err != nil {
		t.Skip("SKIPPED: there is no /proc here")
	}
	require.ErrorContains(t, testAttributes("/proc/self"), "extended attributes")
	require.NoError(t, testAttributes(t.TempDir()))
}
