package up_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/deploy/millrace/operate"
	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/config"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
	"github.com/jobspy/millrace/stages/archive"
)

// archiving is what the archive works with, over a store.
func archiving(s store.Store) stage.Deps {
	return stage.Deps{Bus: line.Bus, Store: s, Clock: time.Now, Log: zerolog.Nop()}
}

// archiveIsSound verifies every volume.
func archiveIsSound(t *testing.T, s store.Store) {
	t.Helper()
	states, err := line.Bus.KV(t.Context(), contract.KVJoin)
	require.NoError(t, err)
	v := volume.Verifier{Store: s, Records: line.Bus, States: states}
	all, err := v.Periods(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, all)
	for _, p := range all {
		r, err := v.Verify(t.Context(), p)
		require.NoError(t, err)
		require.Empty(t, r.Problems)
		require.Positive(t, r.Compared)
	}
}

// TestTheArchiveGivesBackWhatTheLineMade archives a day by hand, proves it through S3, loses the
// objects of documents and gets them back byte for byte.
func TestTheArchiveGivesBackWhatTheLineMade(t *testing.T) {
	t.Parallel()
	s3 := client(t)
	l, err := ledger.OpenLedger(t.Context(), line.Bus, time.Hour, time.Now)
	require.NoError(t, err)
	sources := operate.Sources{Bus: line.Bus, Ledger: l, Store: func(context.Context) (store.Store, error) { return s3, nil }}
	round := rounds.Add(1)
	var ids []string
	for i, body := range []string{`{"jobs":[{"title":"Baker"}]}`, " {\"jobs\": [{\"title\":\"B\u2028ker <&>\"}]}\n", `{"jobs":[{"title":"Caf\u00e9","salary":1.0}]}`} {
		ids = append(ids, publish(t, "job_extraction.openai", fmt.Sprintf("kept-%d-%d", round, i), body, nil))
	}
	for _, id := range ids {
		require.Equal(t, ledger.Completed, entry(t, id).Holder.Kind)
	}

	cfg, err := config.Parse[archive.Config](map[string]string{"ARCHIVE_PART_DOCUMENTS": "2"})
	require.NoError(t, err)
	_, err = operate.RunArchive(t.Context(), cfg, archiving(s3), archive.Options{Now: true}, func() {})
	require.NoError(t, err)
	archiveIsSound(t, s3)

	before := map[store.Ref]store.Object{}
	for _, id := range ids {
		d, err := operate.FindDocument(t.Context(), sources, id)
		require.NoError(t, err)
		require.NotNil(t, d.Archived)
		require.Empty(t, d.Gone)
		for _, r := range d.Objects { // the result is one of them
			o, err := s3.Get(t.Context(), r)
			require.NoError(t, err)
			before[r] = *o
			require.NoError(t, s3.Delete(t.Context(), r))
		}
		d, err = operate.FindDocument(t.Context(), sources, id)
		require.NoError(t, err)
		require.NotEmpty(t, d.Gone)
		day, err := volume.Parse(volume.Daily, d.Archived.Volume[len("daily/"):])
		require.NoError(t, err)
		// Written by the line's own store, as the archive of a stage in the same process is.
		_, done, err := operate.DayRestore{Restore: volume.Restore{FileID: id}, Deps: archiving(line.Store), Waiting: func() {}}.Run(t.Context(), day)
		require.NoError(t, err)
		require.Equal(t, []int{1, len(d.Gone), 0}, []int{done.Documents, done.Written, done.Conflicts})
	}
	require.Len(t, before, 13*len(ids))
	for r, want := range before {
		have, err := s3.Get(t.Context(), r)
		require.NoError(t, err)
		require.Equal(t, want, *have)
	}
	var records []*bus.Stored
	for m, err := range line.Bus.Scan(t.Context(), contract.StreamCompleted, "", 1) {
		require.NoError(t, err)
		if m.Header[contract.HeaderFileID] == ids[0] {
			records = append(records, m)
		}
	}
	require.Len(t, records, 1)
	found, err := volume.Find(t.Context(), s3, ids[0])
	require.NoError(t, err)
	require.Equal(t, records[0].Body, found.Record)
	require.Equal(t, records[0].Seq, found.Seq)
}
