package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// counting counts the bytes that are read of parts.
type counting struct {
	*store.Memory
	bytes int
}

func (c *counting) GetRange(ctx context.Context, r store.Ref, offset, n int64) ([]byte, error) {
	body, err := c.Memory.GetRange(ctx, r, offset, n)
	c.bytes += len(body)
	return body, err
}

func TestADocumentIsFoundWithoutReadingThePart(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, b *bundle) {
		b.several("a", 3*frameDocuments)
		b.archive(10000)
		c := &counting{Memory: b.objects}
		v, err := Open(t.Context(), c, Day(time.Now()))
		require.NoError(t, err)
		part := v.Manifest.Parts[0]
		x, err := readIndex(t.Context(), c, &part)
		require.NoError(t, err)
		require.Len(t, x.Frames, 3)
		d, ok, err := v.Find(t.Context(), "a-700")
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, uint64(701), d.Seq)
		require.Equal(t, 2, d.Frame)
		require.Equal(t, int(x.Frames[2].Bytes), c.bytes)
		_, ok, err = v.Find(t.Context(), "a-7000")
		require.NoError(t, err)
		require.False(t, ok)
	})
}

func TestAFrameIsBoundedByItsBytes(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, b *bundle) {
		for i := range 3 {
			b.complete(fmt.Sprintf("big-%d", i), strings.Repeat("x", frameLines*2/3))
		}
		b.complete("huge", strings.Repeat("y", 3*readAhead/2))
		b.archive(10)
		r := b.verify(Daily, "2000-01-01")
		require.True(t, r.Sound(), r.Problems)
		v, err := Open(t.Context(), b.objects, Day(time.Now()))
		require.NoError(t, err)
		x, err := readIndex(t.Context(), b.objects, &v.Manifest.Parts[0])
		require.NoError(t, err)
		require.Len(t, x.Frames, 2)
	})
}

func TestTheNewestRecordOfADocumentIsFound(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, b *bundle) {
		b.complete("a", "{}")
		pass(time.Hour)
		b.complete("a", "{}")
		b.archive(1)
		f, err := Find(t.Context(), b.objects, "a")
		require.NoError(t, err)
		require.Equal(t, uint64(2), f.Seq)
		pass(oneDay)
		b.complete("a", "{}")
		b.archive(1)
		f, err = Find(t.Context(), b.objects, "a")
		require.NoError(t, err)
		require.Equal(t, "daily/2000-01-02", f.Period.String())
		_, err = Find(t.Context(), b.objects, "b")
		require.ErrorIs(t, err, store.ErrNotFound)
	})
}

func TestMergingCopiesFrames(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, b *bundle) {
		for range 6 {
			b.several("a", 2)
			pass(oneDay)
		}
		b.archive(10)
		hold := func(context.Context) error { return nil }
		week := Week(time.Date(2000, 1, 5, 0, 0, 0, 0, time.UTC))
		n, err := Merge(t.Context(), b.objects, week, Limits{Documents: 5, Bytes: 1 << 30}, hold)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		m, err := readManifest(t.Context(), b.objects, week)
		require.NoError(t, err)
		var want []byte
		for _, day := range []string{"2000-01-03", "2000-01-04"} {
			want = append(want, b.body("daily/"+day+"/part-1.jsonl.zst")...)
		}
		require.Equal(t, want, b.body(m.Parts[0].Key))
		require.Equal(t, []int{4, 4, 8}, []int{m.Parts[0].Documents, m.Parts[1].Documents, m.Documents})
		n, err = Merge(t.Context(), b.objects, week, Limits{Documents: 5, Bytes: 1 << 30}, hold)
		require.NoError(t, err)
		require.Zero(t, n)
		lost := errors.New("lost")
		_, err = Merge(t.Context(), b.objects, Month(week.Start), Limits{Documents: 5, Bytes: 1}, func(context.Context) error { return lost })
		require.ErrorIs(t, err, lost)
	})
}

func TestADamagedDayIsNotMerged(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, b *bundle) {
		b.several("a", 2)
		b.archive(10)
		key := "daily/2000-01-01/part-1.jsonl.zst"
		body := b.body(key)
		body[9] ^= 1
		b.plant(key, body)
		_, err := Merge(t.Context(), b.objects, Month(time.Now()), Limits{Documents: 5, Bytes: 1}, nil)
		d, ok := errors.AsType[*DamageError](err)
		require.True(t, ok)
		require.Equal(t, key, d.Key)
	})
}

// hot returns all that is in the buckets of documents.
func (b *bundle) hot() map[store.Ref]store.Object {
	b.t.Helper()
	all := map[store.Ref]store.Object{}
	for _, bucket := range []string{contract.BucketRaw, contract.BucketProcessed, contract.BucketJobs} {
		for info, err := range b.objects.List(b.t.Context(), bucket, "") {
			require.NoError(b.t, err)
			o, err := b.objects.Get(b.t.Context(), info.Ref)
			require.NoError(b.t, err)
			all[info.Ref] = *o
		}
	}
	return all
}

func TestRestoreGivesBackEveryObject(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, b *bundle) {
		for i, body := range nasty {
			b.complete(fmt.Sprintf("doc-%d", i), body)
		}
		b.complete("again", `{"a":1}`)
		b.complete("again", `{"a":2}`) // a replay: the newest record counts
		b.archive(10)
		before := b.hot()
		day := Day(time.Now())
		n := len(nasty) + 2
		done, err := Restore{Store: b.objects}.Run(t.Context(), day)
		require.NoError(t, err)
		require.Equal(t, Restored{Documents: n, Same: (n - 1) * 13}, done, "nothing was lost")

		for ref := range before {
			require.NoError(t, b.objects.Delete(t.Context(), ref))
		}
		done, err = Restore{Store: b.objects, DryRun: true}.Run(t.Context(), day)
		require.NoError(t, err)
		require.Equal(t, (n-1)*13, done.Written)
		require.Empty(t, b.hot(), "a dry run writes nothing")

		done, err = Restore{Store: b.objects, FileID: "doc-3"}.Run(t.Context(), day)
		require.NoError(t, err)
		require.Equal(t, []int{1, 13}, []int{done.Documents, done.Written})
		require.Len(t, b.hot(), 13)

		done, err = Restore{Store: b.objects}.Run(t.Context(), day)
		require.NoError(t, err)
		require.Equal(t, []int{n, (n - 2) * 13, 13, 0}, []int{done.Documents, done.Written, done.Same, done.Conflicts})
		require.Equal(t, before, b.hot())
	})
}

func TestRestoreLeavesWhatIsAnother(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, b *bundle) {
		b.several("a", 2)
		b.archive(10)
		changed := doc.ResultRef(time.Now(), "a-0")
		late := stored(changed, `{"jobs":[{}]}`)
		require.Nil(t, b.objects.Put(t.Context(), late))
		var told []string
		r := Restore{Store: b.objects, Conflict: func(r store.Ref) { told = append(told, r.String()) }}
		done, err := r.Run(t.Context(), Day(time.Now()))
		require.NoError(t, err)
		require.Equal(t, 1, done.Conflicts)
		require.Equal(t, []string{changed.String()}, told)
		o, err := b.objects.Get(t.Context(), changed)
		require.NoError(t, err)
		require.Equal(t, late.Body, o.Body)

		r.FileID = "nobody"
		_, err = r.Run(t.Context(), Day(time.Now()))
		require.ErrorIs(t, err, store.ErrNotFound)
		_, err = r.Run(t.Context(), Day(time.Now().Add(oneDay)))
		require.ErrorIs(t, err, store.ErrNotFound)
	})
}

// A volume as it was written before there were indexes.
func (b *bundle) first() {
	b.t.Helper()
	b.several("old", 3)
	var text []byte
	for m, err := range b.bus.Scan(b.t.Context(), contract.StreamCompleted, "", 1) {
		require.NoError(b.t, err)
		text = append(text, fmt.Sprintf(`{"seq":%d,"completed_at":"2000-01-01T00:00:00Z","record":%s,"raw":"{\"title\": \"old\"}","validated":{"class":"validated","of":"x"},"result":{"jobs":[]}}`+"\n",
			m.Seq, m.Body)...)
	}
	body, err := (&packer{}).pack(text)
	require.NoError(b.t, err)
	b.plant("daily/2000-01-01/part-1.jsonl.zst", body)
	b.plant("daily/2000-01-01/manifest.json", fmt.Appendf(nil, `{
  "date": "2000-01-01",
  "parts": [{"key": "daily/2000-01-01/part-1.jsonl.zst", "documents": 3, "first_seq": 1, "last_seq": 3, "sha256": %q, "bytes": %d}],
  "documents": 3
}`, doc.Sum(body), len(body)))
	b.state.LastSeq, b.state.Touched = 3, []string{"monthly/2000-01", "weekly/1999-W52"}
	b.write()
}

func TestVolumesOfTheFirstVersionAreRead(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, b *bundle) {
		b.first()
		r := b.verify(Daily, "2000-01-01")
		require.True(t, r.Sound(), r.Problems)
		require.Equal(t, []int{3, 3, 3}, []int{r.Documents, r.Compared, r.Inexact})
		f, err := Find(t.Context(), b.objects, "old-1")
		require.NoError(t, err)
		require.False(t, f.Exact)
		require.True(t, bytes.Equal([]byte(`{"title": "old"}`), f.Objects[0].Body), "blanks count")

		b.several("new", 2)
		b.archive(10)
		b.merge()
		for kind, name := range map[Kind]string{Daily: "2000-01-01", Weekly: "1999-W52", Monthly: "2000-01"} {
			r = b.verify(kind, name)
			require.True(t, r.Sound(), r.Problems)
			require.Equal(t, 5, r.Documents)
		}
		m, err := readManifest(t.Context(), b.objects, Month(time.Now()))
		require.NoError(t, err)
		require.Len(t, m.Parts, 1)
		v, err := Open(t.Context(), b.objects, Month(time.Now()))
		require.NoError(t, err)
		for _, id := range []string{"old-2", "new-1"} {
			_, ok, err := v.Find(t.Context(), id)
			require.NoError(t, err)
			require.True(t, ok, id)
		}
		done, err := Restore{Store: b.objects, FileID: "old-2"}.Run(t.Context(), Day(time.Now()))
		require.NoError(t, err)
		require.Equal(t, []int{1, 0}, []int{done.Inexact, done.Conflicts})
	})
}

func TestADocumentNamesEveryObjectOnce(t *testing.T) {
	t.Parallel()
	d := New(&bus.Stored{Seq: 1, Body: []byte(`{"objects":[
		{"bucket":"llm-raw","key":"by_date/2025-01-27/a.json"},{"bucket":"llm-raw","key":"by_provider/openai/a.json"},
		{"bucket":"llm-raw","key":"by_date/2025-01-27/a.json"},{"bucket":"llm-raw","key":"by_date/2025-01-27/b.json"},
		{"bucket":"llm-processed","key":"enriched/by_task_type/x/a.json"},{"bucket":"llm-processed","key":"_claim/a"},
		{"bucket":"job-data","key":"raw/acme/2025-01-27/a.json"},{"bucket":"","key":"x"},{"bucket":"llm-raw","key":"../x"}],
		"result":{"bucket":"job-data","key":"processed/2025-01-27/a.json"}}`)})
	var got []string
	for _, o := range d.Objects {
		got = append(got, fmt.Sprintf("%s %v", o.Class, o.Refs))
	}
	require.Equal(t, []string{
		"raw [llm-raw/by_date/2025-01-27/a.json llm-raw/by_provider/openai/a.json]", "raw [llm-raw/by_date/2025-01-27/b.json]",
		"enriched [llm-processed/enriched/by_task_type/x/a.json]", " [llm-processed/_claim/a]",
		" [job-data/raw/acme/2025-01-27/a.json]", " [job-data/processed/2025-01-27/a.json]",
	}, got)
}
