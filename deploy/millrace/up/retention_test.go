package up_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/deploy/millrace/operate"
	"github.com/jobspy/millrace/shared/config"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
	"github.com/jobspy/millrace/stages/archive"
)

// TestWhatIsOverItsTimeGoesAndComesBack removes the views of documents as if days had passed,
// finds the documents all the same and restores them byte for byte; what was restored stays.
// It removes from the whole store, so nothing else runs meanwhile.
func TestWhatIsOverItsTimeGoesAndComesBack(t *testing.T) { //nolint:paralleltest // see above
	s3 := client(t)
	l, err := ledger.OpenLedger(t.Context(), line.Bus, time.Hour, time.Now)
	require.NoError(t, err)
	sources := operate.Sources{Bus: line.Bus, Ledger: l, Store: func(context.Context) (store.Store, error) { return s3, nil }}
	cfg, err := config.Parse[archive.Config](nil)
	require.NoError(t, err)
	later := time.Now().Add(3 * 24 * time.Hour)
	deps := archiving(line.Store)
	deps.Clock = func() time.Time { return later }
	deps.Policy = func() policy.Storage {
		s := policy.Seed(nil)
		r := &s.Retention
		r.Raw, r.Validated, r.Enriched, r.Standardized, r.Results = "1d", "1d", "1d", "1d", "1d"
		return s
	}
	t.Cleanup(func() { // the line's own clock is behind
		states, err := line.Bus.KV(context.WithoutCancel(t.Context()), contract.KVJoin)
		require.NoError(t, err)
		require.NoError(t, states.Delete(context.WithoutCancel(t.Context()), "archive.retention"))
	})

	round := rounds.Add(1)
	var ids []string
	before := map[store.Ref]store.Object{}
	for i := range 3 {
		id := publish(t, "job_extraction.openai", fmt.Sprintf("over-%d-%d", round, i), `{"jobs":[{"title":"B\u2028ker <&>"}]}`, nil)
		ids = append(ids, id)
		require.Equal(t, ledger.Completed, entry(t, id).Holder.Kind)
	}
	_, err = operate.RunArchive(t.Context(), cfg, archiving(s3), archive.Options{Now: true}, func() {})
	require.NoError(t, err)
	var day volume.Period
	for _, id := range ids {
		d, err := operate.FindDocument(t.Context(), sources, id)
		require.NoError(t, err)
		require.Len(t, d.Objects, 13)
		day = volume.Day(d.At)
		for _, r := range d.Objects {
			o, err := s3.Get(t.Context(), r)
			require.NoError(t, err)
			before[r] = *o
		}
	}

	changed := store.Object{Ref: view(before, ids[0], contract.ByProvider), Body: []byte("changed by hand")}
	require.Nil(t, s3.Put(t.Context(), changed))
	deleted := view(before, ids[0], contract.ByDate)
	require.NoError(t, s3.Delete(t.Context(), deleted))
	there := func(of func(store.Ref) bool) {
		t.Helper()
		for r, want := range before {
			have, err := s3.Get(t.Context(), r)
			switch {
			case r == changed.Ref:
				require.NoError(t, err)
				require.Equal(t, changed.Body, have.Body)
			case !of(r):
				require.ErrorIs(t, err, store.ErrNotFound)
			default:
				require.NoError(t, err)
				require.Equal(t, want, *have)
			}
		}
	}
	there(func(r store.Ref) bool { return r != deleted }) // the other views of the same bytes are as they were

	expire := func() (removed, changed int) {
		t.Helper()
		all, err := operate.ExpireArchive(t.Context(), cfg, deps, archive.ExpireOptions{}, func() {})
		require.NoError(t, err)
		for _, x := range all {
			require.False(t, x.Failed, x.Why)
			removed += x.Removed
			changed += x.Kept.Changed
		}
		return removed, changed
	}
	removed, differ := expire()
	require.GreaterOrEqual(t, removed, len(before)-2)
	require.Equal(t, 1, differ)
	there(func(store.Ref) bool { return false })
	for _, id := range ids {
		d, err := operate.FindDocument(t.Context(), sources, id)
		require.NoError(t, err)
		require.Equal(t, operate.Completed, d.State)
		require.NotNil(t, d.Archived)
		require.NotEmpty(t, d.Gone)
	}
	archiveIsSound(t, s3)

	restore := operate.DayRestore{Deps: deps, Waiting: func() {}}
	_, done, err := restore.Run(t.Context(), day)
	require.NoError(t, err)
	require.Equal(t, removed+1, done.Written)
	require.Equal(t, 1, done.Conflicts)
	there(func(store.Ref) bool { return true })
	later = later.Add(23 * time.Hour)
	removed, _ = expire()
	require.Zero(t, removed)
	there(func(store.Ref) bool { return true })
	archiveIsSound(t, s3)
	later = later.Add(2 * time.Hour)
	removed, _ = expire()
	require.GreaterOrEqual(t, removed, len(before)-1, "until its time is over again")
}

// view returns the raw object of a document in a view.
func view(all map[store.Ref]store.Object, fileID string, v contract.View) store.Ref {
	for r, o := range all {
		if r.Bucket == contract.BucketRaw && o.Meta["file-id"] == fileID && strings.HasPrefix(r.Key, string(v)+"/") {
			return r
		}
	}
	return store.Ref{}
}
