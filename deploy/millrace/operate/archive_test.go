package operate

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
	"github.com/jobspy/millrace/stages/archive"
)

// end completes a document with a raw object and a result that exist.
func (s *set) end(fileID string, h bus.Header) []store.Ref {
	s.t.Helper()
	result := doc.ResultRef(time.Now(), fileID)
	refs := append(doc.Views(contract.ClassRaw, contract.Views(), time.Now(), "openai", "job_extraction", fileID+".json"), result)
	for _, r := range refs {
		require.Nil(s.t, s.store.Put(s.t.Context(), store.Object{Ref: r, Body: []byte("{}"), Meta: map[string]string{"file-id": fileID}}))
	}
	body, err := codec.Marshal(doc.Record{
		Metadata: doc.Metadata{FileID: fileID, TaskType: "job_extraction", Provider: "openai", Checksum: "sha256:" + sum("{}")},
		Outcome:  contract.OutcomeJobs, Objects: refs, Result: &result,
	})
	require.NoError(s.t, err)
	header := bus.Header{contract.HeaderFileID: fileID, contract.HeaderName: fileID + ".json"}
	maps.Copy(header, h)
	s.send(contract.CompletedSubject("job_extraction", "openai"), header, string(body))
	return refs
}

// archive archives all that has completed.
func (s *set) archive() archive.Done {
	s.t.Helper()
	cfg := archive.Config{PartDocuments: 100, PartBytes: 1 << 20, RunTimeout: time.Minute}
	done, err := RunArchive(s.t.Context(), cfg, s.deps(), archive.Options{Now: true}, func() { s.t.Error("nobody else is archiving") })
	require.NoError(s.t, err)
	return done
}

func (s *set) deps() stage.Deps {
	return stage.Deps{Bus: s.bus, Store: s.store, Clock: time.Now, Log: zerolog.Nop()}
}

func (s *set) restore() DayRestore {
	return DayRestore{Deps: s.deps(), Waiting: func() { s.t.Error("nobody is at the archive") }}
}

// forget removes the records of completed documents from their stream.
func (s *set) forget() {
	s.t.Helper()
	for m, err := range s.bus.Scan(s.t.Context(), contract.StreamCompleted, "", 1) {
		require.NoError(s.t, err)
		require.NoError(s.t, s.bus.Delete(s.t.Context(), contract.StreamCompleted, m.Seq))
	}
}

func TestADocumentThatOnlyTheArchiveHasIsFound(t *testing.T) {
	t.Parallel()
	s := setup(t)
	refs := s.end("a", bus.Header{contract.HeaderReplayCount: "2"})
	s.end("b", nil)
	require.Equal(t, 2, s.archive().Documents)
	s.forget()
	require.NoError(t, s.store.Delete(t.Context(), refs[1]))

	d := s.find("a")
	require.Equal(t, Completed, d.State)
	require.Equal(t, contract.OutcomeJobs, d.Outcome)
	require.Equal(t, []string{"a.json", "job_extraction", "openai", sum("{}")}, []string{d.Name, d.Task, d.Provider, d.SHA256})
	require.Equal(t, 2, d.Replays)
	require.Equal(t, []store.Ref{refs[1]}, d.Gone)
	day := volume.Day(d.At)
	require.Equal(t, &Archived{Volume: day.String(), Bucket: contract.BucketArchive, Part: day.PartKey(1), Seq: 1}, d.Archived)

	s.bury(contract.Enrich, contract.ReasonExhausted, "a", "{}", nil)
	require.Equal(t, Completed, s.find("a").State, "the higher replay count counts")
	s.bury(contract.Enrich, contract.ReasonExhausted, "a", "{}", bus.Header{contract.HeaderReplayCount: "3"})
	require.Equal(t, Failed, s.find("a").State)
	_, err := FindDocument(t.Context(), s.sources(), "nobody")
	require.ErrorIs(t, err, ErrUnknown)
}

func TestWhereACompletedDocumentIsArchived(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.accept("a", "{}")
	refs := s.end("a", nil)
	s.finish("a", ledger.Completed, contract.Archive, "")
	d := s.find("a")
	require.Nil(t, d.Archived)
	require.Empty(t, d.Gone)
	s.archive()
	require.NotNil(t, s.find("a").Archived)
	for _, r := range refs {
		require.NoError(t, s.store.Delete(t.Context(), r))
	}
	d = s.find("a")
	require.Equal(t, refs, d.Gone)
	require.NotNil(t, d.Archived)
	s.forget()
	d = s.find("a")
	require.Equal(t, refs, d.Gone, "the ledger knows the document, and the archive its objects")
	require.NotNil(t, d.Archived)
	require.Equal(t, contract.OutcomeJobs, d.Outcome)
}

func TestAStoreThatIsDownHidesNoDocument(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.end("a", nil)
	sources := s.sources()
	down := errors.New("the store is down")
	sources.Store = func(context.Context) (store.Store, error) { return nil, down }
	d, err := FindDocument(t.Context(), sources, "a")
	require.NoError(t, err)
	require.Equal(t, Completed, d.State)
	require.Equal(t, down.Error(), d.StoreError)
	_, err = FindDocument(t.Context(), sources, "b")
	require.ErrorIs(t, err, ErrUnknown)
	require.ErrorContains(t, err, "the archive could not be asked: the store is down")
}

func TestVolumesAreListedAndRestored(t *testing.T) {
	t.Parallel()
	s := setup(t)
	all, err := ListVolumes(t.Context(), s.store)
	require.NoError(t, err)
	require.Empty(t, all)
	refs := s.end("a", nil)
	s.archive()
	all, err = ListVolumes(t.Context(), s.store)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, []any{volume.Daily, 1, 1}, []any{all[0].Kind, all[0].Parts, all[0].Documents})

	day, err := volume.Parse(volume.Daily, all[0].Period)
	require.NoError(t, err)
	limits := volume.Limits{Documents: 10, Bytes: 1 << 20}
	_, err = volume.Merge(t.Context(), s.store, volume.Month(day.Start), limits, func(context.Context) error { return nil })
	require.NoError(t, err)
	require.NoError(t, s.store.Delete(t.Context(), day.Manifest()))
	require.NoError(t, s.store.Delete(t.Context(), refs[0]))
	from, done, err := s.restore().Run(t.Context(), day)
	require.NoError(t, err)
	require.Equal(t, volume.Month(day.Start), from, "the day's own volume is gone")
	require.Equal(t, []int{1, 1, 3}, []int{done.Documents, done.Written, done.Same})
	at, err := volume.ReadRestored(t.Context(), s.store, day)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), at, time.Minute)
	_, _, err = s.restore().Run(t.Context(), volume.Day(day.Start.AddDate(0, 0, -40)))
	require.ErrorIs(t, err, store.ErrNotFound)

	require.Nil(t, s.store.Put(t.Context(), store.Object{Ref: day.Manifest(), Body: []byte("{}")}))
	all, err = ListVolumes(t.Context(), s.store)
	require.NoError(t, err)
	require.Contains(t, all[0].Error, "is damaged")
}
