package archive

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/announce"
	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/stagetest"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
)

// bundle is a stage with all that it talks to. It lives in a synctest bubble, where time
// passes at once and begins in the year 2000.
type bundle struct {
	t       *testing.T
	bus     *bus.Memory
	objects store.Store
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{t: t, objects: store.NewMemory(nil)}
	b.bus = bus.NewMemory(
		[]bus.StreamConfig{{Name: contract.StreamCompleted, Subjects: []string{contract.RootCompleted + ".>"}}},
		[]bus.KVConfig{{Name: contract.KVJoin, MarkerTTL: time.Minute}},
	)
	t.Cleanup(func() { require.NoError(t, b.bus.Close()) })
	for _, name := range contract.Buckets() {
		_, err := b.objects.EnsureBucket(t.Context(), name)
		require.NoError(t, err)
	}
	return b
}

// stage makes the stage, on other dependencies where they are given.
func (b *bundle) stage(settings map[string]string, change func(*stage.Deps)) stage.Handler {
	b.t.Helper()
	deps := stage.Deps{Bus: b.bus, Store: b.objects, Clock: time.Now, Log: zerolog.Nop()}
	if change != nil {
		change(&deps)
	}
	h, err := New(b.t.Context(), stagetest.Config[Config](b.t, settings), deps)
	require.NoError(b.t, err)
	return h
}

// ended is a document as aggregate sends it.
func ended(fileID string) *doc.Document {
	d := &doc.Document{Name: fileID + ".json", Attempt: 1, Lane: contract.Normal, Origin: doc.Origin{Time: time.Now()}}
	d.Metadata = doc.Metadata{
		FileID: fileID, CreatedAt: time.Now().UTC(), TaskType: string(contract.JobExtraction), Provider: "openai",
		ProcessingStatus: contract.StatusAggregated, FileSize: 2,
	}
	d.Timeline = []doc.Step{{Stage: contract.Ingest, At: time.Now().UTC(), MS: 3, Attempt: 1}}
	ref := doc.ResultRef(d.Metadata.CreatedAt, fileID)
	d.Outcome = &doc.Outcome{Outcome: contract.OutcomeJobs, Result: &ref}
	return d
}

// put stores everything that the record of d will name.
func (b *bundle) put(d *doc.Document, raw string) {
	b.t.Helper()
	var objects []store.Object
	for _, c := range contract.Classes() {
		body := []byte(`{"class":"` + string(c) + `","of":"` + d.Metadata.FileID + `"}`)
		if c == contract.ClassRaw {
			body = []byte(raw)
		}
		objects = append(objects, d.Views(c, body)...)
	}
	objects = append(objects, store.Object{Ref: *d.Outcome.Result, Body: []byte(`{"jobs":[]}`)})
	require.Nil(b.t, b.objects.Put(b.t.Context(), objects...))
}

func TestARecordNamesEveryObject(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		in := ended("doc-1")
		in.Outcome.Objects = []store.Ref{{Bucket: contract.BucketJobs, Key: "raw/greenhouse/2000-01-01/doc-1.json"}}
		require.Nil(t, b.objects.Put(t.Context(), store.Object{Ref: in.Outcome.Objects[0], Body: []byte("{}")}))
		b.put(in, "{}")
		outs, err := b.stage(nil, nil).Handle(t.Context(), in)
		require.NoError(t, err)
		require.Len(t, outs, 1)
		require.True(t, outs[0].Terminal)
		require.Equal(t, "llm.completed.job_extraction.openai", outs[0].Subject)
		require.Equal(t, "doc-1", outs[0].Doc.Metadata.FileID)
		var r doc.Record
		require.NoError(t, codec.Unmarshal(outs[0].Body, &r))
		require.Equal(t, contract.StatusCompleted, r.Metadata.ProcessingStatus)
		require.Equal(t, contract.OutcomeJobs, r.Outcome)
		require.Len(t, r.Objects, 4*3+2)
		require.Equal(t, "llm-raw/by_date/2000-01-01/doc-1.json", r.Objects[0].String())
		require.Equal(t, in.Outcome.Result, r.Result)
		require.Contains(t, string(outs[0].Body), `"sources":[]`)
		require.Len(t, r.Timeline, 2)
		require.Equal(t, contract.Archive, r.Timeline[1].Stage)
		require.Len(t, in.Timeline, 1)
	})
}

func TestARecordNamesWhatTheLayoutKeeps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		in := ended("doc-1")
		in.Layout = doc.NewLayout([]contract.View{contract.ByTask}, []contract.Class{contract.ClassStandardized})
		b.put(in, "{}")
		outs, err := b.stage(nil, nil).Handle(t.Context(), in)
		require.NoError(t, err, "nobody waits for what is not kept")
		var r doc.Record
		require.NoError(t, codec.Unmarshal(outs[0].Body, &r))
		require.Equal(t, []store.Ref{
			{Bucket: "llm-raw", Key: "by_task_type/job_extraction/doc-1.json"},
			{Bucket: "llm-processed", Key: "standardized/by_task_type/job_extraction/doc-1.json"},
			*in.Outcome.Result,
		}, r.Objects)
	})
}

func TestARecordNamesBucketsAsTheStoreDoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		names := store.Names{contract.BucketRaw: "acme-raw", contract.BucketJobs: "acme-jobs"}
		for _, name := range names {
			_, err := b.objects.EnsureBucket(t.Context(), name)
			require.NoError(t, err)
		}
		renamed := func(d *stage.Deps) { d.Store, d.Names = store.Rename(d.Store, names), names }
		in := ended("doc-1")
		below := b.objects
		b.objects = store.Rename(below, names)
		b.put(in, "what was sent")
		b.objects = below
		outs, err := b.stage(nil, renamed).Handle(t.Context(), in)
		require.NoError(t, err)
		var r doc.Record
		require.NoError(t, codec.Unmarshal(outs[0].Body, &r))
		require.Equal(t, "acme-raw/by_date/2000-01-01/doc-1.json", r.Objects[0].String())
		require.Equal(t, "acme-jobs/processed/2000-01-01/doc-1.json", r.Result.String())

		_, err = b.bus.Publish(t.Context(), bus.Message{Subject: outs[0].Subject, Body: outs[0].Body})
		require.NoError(t, err)
		deps := b.deps()
		renamed(&deps)
		_, err = Run(t.Context(), stagetest.Config[Config](t, nil), deps, Options{Now: true})
		require.NoError(t, err)
		_, docs := b.volume(volume.Daily, "2000-01-01")
		require.Equal(t, "what was sent", string(docs[0].Objects[0].Body), "and what a record names is found")
		require.Len(t, docs[0].Objects[0].Refs, 3, "the views of a class are one object")
		require.Empty(t, docs[0].Missing)
	})
}

// blind is a store that nobody may ask what is there.
type blind struct {
	store.Store
	t *testing.T
}

// Stat implements store.Store.
func (b blind) Stat(_ context.Context, r store.Ref) (store.Info, error) {
	b.t.Errorf("%s was looked up although it was announced", r)
	return store.Info{}, nil
}

// announcer hands announcements to a witness.
type announcer struct{ *announce.Witness }

// Announce implements announce.Announcer.
func (a announcer) Announce(_ string, _ bus.Header, body []byte) error {
	a.Hear(body)
	return nil
}

func TestWhatWasAnnouncedIsNeitherWaitedForNorLookedUp(t *testing.T) {
	t.Parallel()
	for _, names := range []store.Names{nil, {contract.BucketRaw: "acme-raw", contract.BucketJobs: "acme-jobs"}} {
		synctest.Test(t, func(t *testing.T) {
			b := setup(t)
			for _, name := range names {
				_, err := b.objects.EnsureBucket(t.Context(), name)
				require.NoError(t, err)
			}
			witness := announce.NewWitness(0)
			b.objects = announce.NewStore(store.Rename(b.objects, names), announcer{witness}, "llm.stored.enrich")
			in := ended("doc-1")
			b.put(in, "{}")
			h := b.stage(nil, func(d *stage.Deps) {
				d.Store, d.Names, d.Announced = blind{d.Store, t}, names, witness
			})
			began := time.Now()
			outs, err := h.Handle(t.Context(), in)
			require.NoError(t, err)
			require.Zero(t, time.Since(began))
			var r doc.Record
			require.NoError(t, codec.Unmarshal(outs[0].Body, &r))
			require.Equal(t, names.Physical("llm-raw")+"/by_date/2000-01-01/doc-1.json", r.Objects[0].String())
		})
	}
}

func TestNoRecordBeforeItsObjectsCanBeRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		in := ended("doc-1")
		b.put(in, "{}")
		late := in.Views(contract.ClassEnriched, []byte("{}"))
		require.NoError(t, b.objects.Delete(t.Context(), late[1].Ref))
		h := b.stage(nil, nil)

		_, err := h.Handle(t.Context(), in)
		v := fault.Of(err)
		require.Equal(t, fault.Waiting, v.Kind)
		require.Equal(t, objectPoll, v.After)
		require.ErrorContains(t, err, "llm-processed/enriched/by_provider/openai/doc-1.json")

		go func() { // it comes while the document is in hand
			pass(50 * time.Millisecond)
			b.objects.Put(t.Context(), late[1])
		}()
		outs, err := h.Handle(t.Context(), in)
		require.NoError(t, err)
		require.Len(t, outs, 1)

		require.NoError(t, b.objects.Delete(t.Context(), late[1].Ref))
		pass(10 * time.Minute)
		_, err = h.Handle(t.Context(), in)
		require.Equal(t, fault.Permanent, fault.Of(err).Kind)
		require.Equal(t, contract.ReasonMissingObject, fault.Of(err).Reason)
	})
}

func TestADocumentThatWasSplitHasItsRawObjectsOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		for _, o := range []contract.Outcome{contract.OutcomeSplit, contract.OutcomeReasked} {
			in := ended("doc-1")
			in.Outcome.Outcome = o
			require.Nil(t, b.objects.Put(t.Context(), in.Views(contract.ClassRaw, []byte("{}"))...))
			require.Nil(t, b.objects.Put(t.Context(), store.Object{Ref: *in.Outcome.Result, Body: []byte("{}")}))
			outs, err := b.stage(nil, nil).Handle(t.Context(), in)
			require.NoError(t, err)
			require.Len(t, outs, 1)
		}
	})
}

func TestInputsThatAreNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		timer := &doc.Document{Timer: "other"}
		open := ended("doc-1")
		open.Outcome = nil
		nameless := ended("doc-1")
		nameless.Name = ""
		for in, want := range map[*doc.Document]contract.Reason{
			timer: contract.ReasonUnroutable, open: contract.ReasonMalformed, nameless: contract.ReasonMalformed,
		} {
			_, err := b.stage(nil, nil).Handle(t.Context(), in)
			require.Equal(t, want, fault.Of(err).Reason)
		}
	})
}

func TestAStoreThatIsDownIsNoMissingObject(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		in := ended("doc-1")
		pass(time.Hour)
		f := &failing{Store: b.objects, from: 1, to: 1 << 30}
		_, err := b.stage(nil, func(d *stage.Deps) { d.Store = f }).Handle(t.Context(), in)
		require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
	})
}

func TestSettingsAreCheckedAllAtOnce(t *testing.T) {
	t.Parallel()
	err := Config{ObjectWait: -1}.Validate()
	for _, name := range []string{"OBJECT_WAIT", "ARCHIVE_PART_DOCUMENTS", "ARCHIVE_PART_BYTES"} {
		require.ErrorContains(t, err, name)
	}
}
