package archive

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/stagetest"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
)

func TestOnlyOneReplicaArchivesAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.complete("doc-1", "{}")
		pass(oneDay + dayGrace)
		kv, err := b.bus.KV(t.Context(), contract.KVJoin)
		require.NoError(t, err)
		_, err = kv.Create(t.Context(), keyLease, []byte("held"), leaseTTL)
		require.NoError(t, err)
		err = b.archive(nil)
		require.Equal(t, fault.Waiting, fault.Of(err).Kind)
		require.Equal(t, leaseRetry, fault.Of(err).After)
		_, err = Run(t.Context(), stagetest.Config[Config](t, nil), b.deps(), Options{})
		require.ErrorIs(t, err, ErrBusy)
		pass(leaseTTL + time.Second)
		require.NoError(t, b.archive(nil))
		b.volume(volume.Daily, "2000-01-01")
	})
}

// slow is a store in which reading takes long.
type slow struct {
	store.Store
	each time.Duration
}

func (s slow) Get(ctx context.Context, r store.Ref) (*store.Object, error) {
	if r.Bucket != contract.BucketArchive {
		pass(s.each)
	}
	return s.Store.Get(ctx, r)
}

func TestTheLeaseIsKeptForAsLongAsARunTakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.several("doc", 40)
		pass(oneDay + dayGrace)
		ended := make(chan error)
		go func() {
			_, err := b.stage(nil, func(d *stage.Deps) { d.Store = slow{b.objects, 40 * time.Second} }).Handle(t.Context(), tick())
			ended <- err
		}()
		for range 5 {
			pass(time.Minute)
			require.Equal(t, fault.Waiting, fault.Of(b.archive(nil)).Kind)
		}
		require.NoError(t, <-ended)
		b.volume(volume.Daily, "2000-01-01")
	})
}

func TestARunWithoutALeaseEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.several("doc", 40)
		pass(oneDay + dayGrace)
		ended := make(chan error)
		go func() {
			_, err := b.stage(nil, func(d *stage.Deps) { d.Store = slow{b.objects, 40 * time.Second} }).Handle(t.Context(), tick())
			ended <- err
		}()
		pass(time.Second)
		kv, err := b.bus.KV(t.Context(), contract.KVJoin)
		require.NoError(t, err)
		_, err = kv.Put(t.Context(), keyLease, []byte("taken over"), time.Hour)
		require.NoError(t, err)
		err = <-ended
		require.ErrorIs(t, err, ErrBusy)
		require.Equal(t, fault.Waiting, fault.Of(err).Kind)
		b.none(volume.Daily, "2000-01-01")
		_, err = kv.Get(t.Context(), keyLease)
		require.NoError(t, err, "the lease of somebody else is left alone")
	})
}

func TestARunEndsBetweenPartsWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.several("doc", 200)
		pass(oneDay + dayGrace)
		settings := map[string]string{"ARCHIVE_PART_DOCUMENTS": "50", "ARCHIVE_TIMEOUT": "30s"}
		h := b.stage(settings, func(d *stage.Deps) { d.Store = slow{b.objects, time.Second} })
		require.Equal(t, 30*time.Second, h.(stage.Lasting).Lasts(tick())) //nolint:forcetypeassert // it must
		_, err := h.Handle(t.Context(), tick())
		require.Equal(t, fault.Waiting, fault.Of(err).Kind)
		m, _ := b.volume(volume.Daily, "2000-01-01")
		require.NotEmpty(t, m.Parts)
		require.Less(t, len(m.Parts), 4)
		require.NoError(t, b.archive(settings))
		m, _ = b.volume(volume.Daily, "2000-01-01")
		require.Equal(t, 200, m.Documents)
	})
}
