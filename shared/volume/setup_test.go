package volume

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// bundle is a broker and a store in a synctest bubble, where time begins in the year 2000.
type bundle struct {
	t       *testing.T
	bus     *bus.Memory
	kv      bus.KV
	objects *store.Memory
	state   State
}

// within runs a test in a bubble.
func within(t *testing.T, f func(*testing.T, *bundle)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bundle{t: t, objects: store.NewMemory(nil), state: State{Known: true}}
		b.bus = bus.NewMemory(
			[]bus.StreamConfig{{Name: contract.StreamCompleted, Subjects: []string{contract.RootCompleted + ".>"}}},
			[]bus.KVConfig{{Name: contract.KVJoin, MarkerTTL: time.Minute}},
		)
		t.Cleanup(func() { require.NoError(t, b.bus.Close()) })
		for _, name := range contract.Buckets() {
			_, err := b.objects.EnsureBucket(t.Context(), name)
			require.NoError(t, err)
		}
		var err error
		b.kv, err = b.bus.KV(t.Context(), contract.KVJoin)
		require.NoError(t, err)
		f(t, b)
	})
}

// object is an object as the line stores it.
func stored(ref store.Ref, body string) store.Object {
	return store.Object{Ref: ref, Body: []byte(body), ContentType: "application/json", Meta: map[string]string{}}
}

// complete stores the objects of a document and publishes its record.
func (b *bundle) complete(fileID, raw string) {
	b.t.Helper()
	at := time.Now().UTC()
	ref := doc.ResultRef(at, fileID)
	r := doc.Record{
		Metadata: doc.Metadata{
			FileID: fileID, CreatedAt: at, TaskType: "job_extraction", Provider: "openai",
			Checksum: "sha256:" + doc.Sum([]byte(raw)), FileSize: int64(len(raw)),
		},
		Outcome: contract.OutcomeJobs, Result: &ref,
	}
	put := []store.Object{stored(ref, `{"jobs": [ ]}`)}
	for _, c := range contract.Classes() {
		for _, view := range doc.Views(c, contract.Views(), at, "openai", "job_extraction", fileID+".json") {
			o := stored(view, `{"class":"`+string(c)+`","of":"`+fileID+`"}`)
			if c == contract.ClassRaw {
				o.Body, o.Meta, o.ContentType = []byte(raw), map[string]string{"file-id": fileID, "lane": "low"}, "text/plain"
			}
			put = append(put, o)
			r.Objects = append(r.Objects, view)
		}
	}
	require.Nil(b.t, b.objects.Put(b.t.Context(), put...))
	body, err := codec.Marshal(r)
	require.NoError(b.t, err)
	_, err = b.bus.Publish(b.t.Context(), bus.Message{
		Subject: "llm.completed.job_extraction.openai", Body: body,
		Header: bus.Header{contract.HeaderFileID: fileID, contract.HeaderName: fileID + ".json"},
	})
	require.NoError(b.t, err)
}

// read fills the objects of a document from the store.
func (b *bundle) read(m *bus.Stored) *Document {
	b.t.Helper()
	d := New(m)
	for i := range d.Objects {
		o, err := b.objects.Get(b.t.Context(), d.Objects[i].Refs[0])
		require.NoError(b.t, err)
		d.Objects[i].Body, d.Objects[i].ContentType, d.Objects[i].Meta = o.Body, o.ContentType, o.Meta
	}
	return d
}

// archive puts all records that are in no volume into those of their days, in parts of at most
// so many documents.
func (b *bundle) archive(most int) {
	b.t.Helper()
	var fill *Builder
	var day Period
	closePart := func() {
		if fill != nil {
			require.NoError(b.t, Append(b.t.Context(), b.objects, day, fill, b.state.Epoch))
			b.state.Touch(day)
		}
		fill = nil
	}
	for m, err := range b.bus.Scan(b.t.Context(), contract.StreamCompleted, "", b.state.LastSeq+1) {
		require.NoError(b.t, err)
		if d := Day(m.Time); fill != nil && (d.Name != day.Name || fill.Documents() >= most) {
			closePart()
		}
		if fill == nil {
			fill, day = &Builder{}, Day(m.Time)
		}
		require.NoError(b.t, fill.Add(b.read(m)))
		b.state.LastSeq, b.state.LastAt = m.Seq, m.Time
	}
	closePart()
	b.write()
}

// write stores the state.
func (b *bundle) write() {
	b.t.Helper()
	_, rev, err := ReadState(b.t.Context(), b.kv)
	require.NoError(b.t, err)
	_, err = b.state.Write(b.t.Context(), b.kv, rev)
	require.NoError(b.t, err)
}

// merge merges all weeks and months.
func (b *bundle) merge() {
	b.t.Helper()
	for _, p := range b.state.Pending() {
		_, err := Merge(b.t.Context(), b.objects, p, Limits{Documents: 1000, Bytes: 1 << 30}, func(context.Context) error { return nil })
		require.NoError(b.t, err)
		b.state.Settle(p)
	}
	b.write()
}

// several completes documents.
func (b *bundle) several(name string, n int) {
	b.t.Helper()
	for i := range n {
		b.complete(fmt.Sprintf("%s-%d", name, i), `{"title": "`+name+`"}`)
	}
}

func (b *bundle) verifier() Verifier {
	return Verifier{Store: b.objects, Records: b.bus, States: b.kv}
}

// verify returns what is wrong with a volume.
func (b *bundle) verify(kind Kind, name string) *Report {
	b.t.Helper()
	p, err := Parse(kind, name)
	require.NoError(b.t, err)
	r, err := b.verifier().Verify(b.t.Context(), p)
	require.NoError(b.t, err)
	return &r
}

// pass lets time go by in the bubble.
func pass(d time.Duration) { <-time.After(d) }

const oneDay = 24 * time.Hour
