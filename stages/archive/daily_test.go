package archive

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
)

// complete brings a document to its end: its objects and its record are there.
func (b *bundle) complete(fileID, raw string) *doc.Document {
	b.t.Helper()
	in := ended(fileID)
	b.put(in, raw)
	outs, err := b.stage(nil, nil).Handle(b.t.Context(), in)
	require.NoError(b.t, err)
	_, err = b.bus.Publish(b.t.Context(), bus.Message{Subject: outs[0].Subject, Body: outs[0].Body})
	require.NoError(b.t, err)
	return in
}

func tick() *doc.Document { return &doc.Document{Timer: contract.CronArchive, Attempt: 1} }

// archive runs the timer once.
func (b *bundle) archive(settings map[string]string) error {
	outs, err := b.stage(settings, nil).Handle(b.t.Context(), tick())
	require.Empty(b.t, outs)
	return err
}

// manifestOf reads the manifest of a day and checks all that it says about its parts.
func (b *bundle) manifestOf(day string) (manifest, []line) {
	b.t.Helper()
	o, err := b.objects.Get(b.t.Context(), dailyRef(day, "manifest.json"))
	require.NoError(b.t, err)
	var m manifest
	require.NoError(b.t, codec.Unmarshal(o.Body, &m))
	var all []line
	for i, p := range m.Parts {
		require.Equal(b.t, fmt.Sprintf("daily/%s/part-%d.jsonl.zst", day, i+1), p.Key)
		o, err := b.objects.Get(b.t.Context(), store.Ref{Bucket: contract.BucketArchive, Key: p.Key})
		require.NoError(b.t, err)
		require.Equal(b.t, doc.Sum(o.Body), p.SHA256)
		require.Len(b.t, o.Body, p.Bytes)
		z, err := zstd.NewReader(bytes.NewReader(o.Body))
		require.NoError(b.t, err)
		var text bytes.Buffer
		_, err = text.ReadFrom(z)
		require.NoError(b.t, err)
		z.Close()
		lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
		require.Len(b.t, lines, p.Documents)
		for n, l := range lines {
			var one line
			require.NoError(b.t, codec.Unmarshal([]byte(l), &one))
			all = append(all, one)
			if n == 0 {
				require.Equal(b.t, p.FirstSeq, one.Seq)
			}
		}
		require.Equal(b.t, p.LastSeq, all[len(all)-1].Seq)
	}
	require.Len(b.t, all, m.Documents)
	return m, all
}

func TestEachDayHasItsDocumentsWithAllTheirForms(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		require.NoError(t, b.archive(nil), "nothing to do is no error")
		b.complete("doc-1", `{"a": 1}`)
		b.complete("doc-2", "\xff\xfe")
		pass(24 * time.Hour)
		gone := b.complete("doc-3", "{}")
		for _, o := range gone.Views(contract.ClassValidated, nil) {
			require.NoError(t, b.objects.Delete(t.Context(), o.Ref))
		}
		require.NoError(t, b.archive(nil))
		require.NoError(t, b.archive(nil))

		first, lines := b.manifestOf("2000-01-01")
		require.Len(t, first.Parts, 1)
		require.Len(t, lines, 2)
		require.Equal(t, `{"a": 1}`, *lines[0].Raw)
		require.Equal(t, "\xff\xfe", string(lines[1].RawBase64))
		require.JSONEq(t, `{"class":"standardized","of":"doc-1"}`, string(lines[0].Standardized))
		require.JSONEq(t, `{"jobs":[]}`, string(lines[0].Result))
		require.Contains(t, string(lines[0].Record), `"file_id":"doc-1"`)
		require.Equal(t, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), lines[0].CompletedAt)

		_, lines = b.manifestOf("2000-01-02")
		require.Len(t, lines, 1)
		require.Equal(t, []string{"llm-processed/validated/by_date/2000-01-02/doc-3.json"}, lines[0].Missing)
		require.Nil(t, lines[0].Validated)

		b.complete("doc-4", "{}")
		require.NoError(t, b.archive(nil))
		second, lines := b.manifestOf("2000-01-02")
		require.Len(t, second.Parts, 2, "what comes later is another part")
		require.Len(t, lines, 2)
	})
}

func TestPartsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		for i := range 70 {
			b.complete(fmt.Sprintf("doc-%d", i), "{}")
		}
		require.NoError(t, b.archive(map[string]string{"ARCHIVE_PART_DOCUMENTS": "30"}))
		m, _ := b.manifestOf("2000-01-01")
		require.Len(t, m.Parts, 3)
		b.complete("big-1", strings.Repeat("x", 5000))
		b.complete("big-2", strings.Repeat("x", 5000))
		require.NoError(t, b.archive(map[string]string{"ARCHIVE_PART_BYTES": "5000"}))
		m, lines := b.manifestOf("2000-01-01")
		require.Len(t, m.Parts, 5)
		require.Len(t, lines, 72)
	})
}

// Invariant: killed at any point and run again, no document twice and none lost.
func TestNoDocumentIsArchivedTwiceOrLost(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		points := int64(0)
		for kill := int64(1); points == 0 || kill <= points; kill++ {
			synctest.Test(t, func(t *testing.T) {
				b := setup(t)
				for i := range 4 {
					b.complete(fmt.Sprintf("doc-%d", i), "{}")
				}
				pass(24 * time.Hour)
				for i := range 3 {
					b.complete(fmt.Sprintf("doc-b%d", i), "{}")
				}
				f := &failing{Store: b.objects, from: kill, to: 1 << 40, after: after}
				h := b.stage(map[string]string{"ARCHIVE_PART_DOCUMENTS": "3"}, func(d *stage.Deps) {
					d.Store, d.Bus = f, failingBus{b.bus, f}
				})
				_, err := h.Handle(t.Context(), tick())
				if err == nil {
					points = kill
				}
				b.complete("doc-late", "{}")
				pass(leaseTTL + time.Second)
				require.NoError(t, b.archive(nil))

				_, one := b.manifestOf("2000-01-01")
				_, two := b.manifestOf("2000-01-02")
				seen := map[uint64]int{}
				for _, l := range append(one, two...) {
					seen[l.Seq]++
				}
				require.Len(t, seen, 8, "killed at call %d, after %v", kill, after)
				require.Len(t, append(one, two...), 8, "killed at call %d, after %v", kill, after)
			})
		}
		require.Greater(t, points, int64(20), "the test has killed too little")
	}
}

func TestOnlyOneReplicaArchivesAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.complete("doc-1", "{}")
		kv, err := b.bus.KV(t.Context(), contract.KVJoin)
		require.NoError(t, err)
		_, err = kv.Create(t.Context(), keyLease, []byte("held"), leaseTTL)
		require.NoError(t, err)
		err = b.archive(nil)
		require.Equal(t, fault.Waiting, fault.Of(err).Kind)
		require.Equal(t, leaseRetry, fault.Of(err).After)
		pass(leaseTTL + time.Second)
		require.NoError(t, b.archive(nil))
		_, lines := b.manifestOf("2000-01-01")
		require.Len(t, lines, 1)
		require.Less(t, runLimit, leaseTTL, "a run must end before its lease")
	})
}

func TestAStreamThatBeganAnewIsArchivedFromItsBeginning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.complete("doc-1", "{}")
		b.complete("doc-2", "{}")
		require.NoError(t, b.archive(nil))

		fresh := setup(t)
		fresh.objects = b.objects
		kv, err := b.bus.KV(t.Context(), contract.KVJoin)
		require.NoError(t, err)
		e, err := kv.Get(t.Context(), keyState)
		require.NoError(t, err)
		kv, err = fresh.bus.KV(t.Context(), contract.KVJoin)
		require.NoError(t, err)
		_, err = kv.Put(t.Context(), keyState, e.Value, 0)
		require.NoError(t, err)
		fresh.complete("doc-3", "{}")
		require.NoError(t, fresh.archive(nil))
		_, lines := fresh.manifestOf("2000-01-01")
		require.Len(t, lines, 3)
	})
}

func TestARecordThatIsNoneIsKeptAsItIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		for _, body := range []string{"no json \xff", `{"objects":7}`} {
			_, err := b.bus.Publish(t.Context(), bus.Message{Subject: "llm.completed.x.y", Body: []byte(body)})
			require.NoError(t, err)
		}
		require.NoError(t, b.archive(nil))
		_, lines := b.manifestOf("2000-01-01")
		require.Len(t, lines, 2)
		require.Equal(t, "\"no json \uFFFD\"", string(lines[0].Record))
		require.Equal(t, `{"objects":7}`, string(lines[1].Record))
	})
}
