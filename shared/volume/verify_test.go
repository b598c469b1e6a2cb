package volume

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

// body reads an object of the archive.
func (b *bundle) body(key string) []byte {
	b.t.Helper()
	o, err := b.objects.Get(b.t.Context(), object(key))
	require.NoError(b.t, err)
	return o.Body
}

// plant replaces an object of the archive.
func (b *bundle) plant(key string, body []byte) {
	b.t.Helper()
	require.Nil(b.t, b.objects.Put(b.t.Context(), store.Object{Ref: object(key), Body: body}))
}

// rewrite makes a volume anew of other documents, with sound checksums, indexes and totals.
func (b *bundle) rewrite(p Period, change func([]*Document) []*Document) {
	b.t.Helper()
	v, err := Open(b.t.Context(), b.objects, p)
	require.NoError(b.t, err)
	var all []*Document
	for d, err := range v.Documents(b.t.Context()) {
		require.NoError(b.t, err)
		all = append(all, d.Document)
	}
	require.NoError(b.t, b.objects.Delete(b.t.Context(), p.Manifest()))
	fill := &Builder{}
	for _, d := range change(all) {
		require.NoError(b.t, fill.Add(d))
	}
	require.NoError(b.t, Append(b.t.Context(), b.objects, p, fill, b.state.Epoch))
}

func TestAllIsSound(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, b *bundle) {
		b.several("a", 5)
		pass(oneDay)
		b.several("b", 3)
		pass(3 * oneDay)
		b.several("c", 2)
		b.archive(2)
		b.merge()
		all, err := b.verifier().Periods(t.Context())
		require.NoError(t, err)
		var names []string
		for _, p := range all {
			names = append(names, p.String())
			r, err := b.verifier().Verify(t.Context(), p)
			require.NoError(t, err)
			require.Empty(t, r.Problems)
			require.Equal(t, r.Documents, r.Compared)
			require.Zero(t, r.Inexact)
		}
		require.Equal(t, []string{
			"daily/2000-01-01", "daily/2000-01-02", "daily/2000-01-05", "weekly/1999-W52", "weekly/2000-W01", "monthly/2000-01",
		}, names)
		require.Equal(t, 8, b.verify(Weekly, "1999-W52").Documents)
		require.Equal(t, 10, b.verify(Monthly, "2000-01").Documents)
		_, err = b.verifier().Verify(t.Context(), Day(time.Now().Add(oneDay)))
		require.ErrorIs(t, err, store.ErrNotFound)
	})
}

// Every bit of a manifest and an index, and a sample of those of a part, counts.
func TestAFlippedBitIsFound(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, b *bundle) {
		b.several("a", 3)
		b.archive(10)
		b.merge()
		for key, step := range map[string]int{
			"daily/2000-01-01/manifest.json": 1, "daily/2000-01-01/index-1.json.zst": 1, "daily/2000-01-01/part-1.jsonl.zst": 3,
			"weekly/1999-W52/manifest.json": 13, "weekly/1999-W52/index-1.json.zst": 13, "weekly/1999-W52/part-1.jsonl.zst": 13,
		} {
			sound := b.body(key)
			p, _, _ := periodOf(key)
			for i := 0; i < len(sound); i += step {
				bad := append([]byte{}, sound...)
				bad[i] ^= 1 << (i % 8)
				b.plant(key, bad)
				r := b.verify(p.Kind, p.Name)
				require.False(t, r.Sound(), "%s, byte %d", key, i)
				require.Contains(t, r.Problems[0].Key, p.String())
			}
			for _, bad := range [][]byte{sound[:len(sound)-1], append(append([]byte{}, sound...), 'x'), {}} {
				b.plant(key, bad)
				require.False(t, b.verify(p.Kind, p.Name).Sound(), "%s with %d bytes", key, len(bad))
			}
			require.NoError(t, b.objects.Delete(t.Context(), object(key)))
			require.False(t, b.verify(p.Kind, p.Name).Sound(), "%s is missing", key)
			b.plant(key, sound)
			require.True(t, b.verify(p.Kind, p.Name).Sound())
		}
	})
}

func TestWhatIsNotExactlyTheDocumentsOfTheDayIsFound(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func([]*Document) []*Document
		want   string
	}{
		{"a line was removed", func(d []*Document) []*Document { return append(d[:1:1], d[2:]...) }, "it is in no part"},
		{"the last line was removed", func(d []*Document) []*Document { return d[:2] }, "it is in no part"},
		{"a line is there twice", func(d []*Document) []*Document { return append(d, d[1]) }, "it is in the volume twice"},
		{"a line is of another day", func(d []*Document) []*Document {
			d[1].CompletedAt = d[1].CompletedAt.Add(oneDay)
			return d
		}, "which is not in daily/2000-01-01"},
		{"a raw body was changed", func(d []*Document) []*Document { d[1].Objects[0].Body = []byte("{}"); return d }, "the raw body is not the one"},
		{"a record was changed", func(d []*Document) []*Document {
			d[1].Record = []byte(strings.Replace(string(d[1].Record), "openai", "google", 1))
			return d
		}, "it is not the record that LLM_COMPLETED holds"},
		{"a record is of no message", func(d []*Document) []*Document {
			other := *d[1]
			other.Seq = 99
			return append(d, &other)
		}, "LLM_COMPLETED has no such record of this day"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			within(t, func(t *testing.T, b *bundle) {
				b.several("a", 3)
				b.archive(10)
				b.merge()
				b.rewrite(Day(time.Now()), tt.change)
				daily := b.verify(Daily, "2000-01-01")
				require.False(t, daily.Sound())
				require.Contains(t, daily.Problems[0].String(), tt.want)
				require.False(t, b.verify(Weekly, "1999-W52").Sound(), "the week holds what the day does not")
			})
		})
	}
}

func TestAnIndexThatPointsElsewhereIsFound(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, b *bundle) {
		b.several("a", 3)
		b.archive(10)
		v, err := Open(t.Context(), b.objects, Day(time.Now()))
		require.NoError(t, err)
		part := v.Manifest.Parts[0]
		x, err := readIndex(t.Context(), b.objects, &part)
		require.NoError(t, err)
		x.Documents[0].Offset, x.Documents[1].Offset = x.Documents[1].Offset, x.Documents[0].Offset
		body := b.body(part.Key)
		_, err = appendPart(t.Context(), b.objects, v.Period, newManifest(v.Period), part, x, body)
		require.NoError(t, err)
		r := b.verify(Daily, v.Period.Name)
		require.Len(t, r.Problems, 1)
		require.Equal(t, "the index does not point at its line", r.Problems[0].What)
		v, err = Open(t.Context(), b.objects, Day(time.Now()))
		require.NoError(t, err)
		_, _, err = v.Find(t.Context(), "a-0")
		require.Error(t, err)
	})
}

func TestAVolumeThatIsMissingIsFound(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, b *bundle) {
		b.several("a", 3)
		pass(oneDay)
		b.several("b", 3)
		b.archive(10)
		b.merge()
		for _, key := range []string{"daily/2000-01-01/manifest.json", "monthly/2000-01/manifest.json"} {
			sound := b.body(key)
			require.NoError(t, b.objects.Delete(t.Context(), object(key)))
			p, _, _ := periodOf(key)
			all, err := b.verifier().Periods(t.Context())
			require.NoError(t, err)
			require.Contains(t, all, p)
			require.False(t, b.verify(p.Kind, p.Name).Sound())
			b.plant(key, sound)
		}
		require.True(t, b.verify(Monthly, "2000-01").Sound())
	})
}

func TestADayThatIsNotOverIsHeldAgainstWhatIsArchived(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, b *bundle) {
		b.several("a", 3)
		b.archive(10)
		b.several("b", 3)
		r := b.verify(Daily, "2000-01-01")
		require.True(t, r.Sound())
		require.Equal(t, 3, r.Compared)
		b.archive(10)
		r = b.verify(Daily, "2000-01-01")
		require.True(t, r.Sound())
		require.Equal(t, 6, r.Compared)
		require.Equal(t, 2, r.Parts)
	})
}

func TestDailyPartsThatAreNotMergedYetAreNoProblem(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, b *bundle) {
		b.several("a", 3)
		b.archive(10)
		b.merge()
		b.several("late", 1)
		b.archive(10)
		require.True(t, b.verify(Weekly, "1999-W52").Sound())
		b.state.Touched = nil
		b.write()
		r := b.verify(Weekly, "1999-W52")
		require.Len(t, r.Problems, 1)
		require.Contains(t, r.Problems[0].What, "daily/2000-01-01/part-2.jsonl.zst is not in it")
		b.state.Touch(Day(time.Now()))
		b.merge()
		r = b.verify(Weekly, "1999-W52")
		require.True(t, r.Sound())
		require.Equal(t, 2, r.Parts)
	})
}

func TestAVolumeOutlivesTheStreamAndTheDailies(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, b *bundle) {
		b.several("a", 3)
		b.archive(10)
		b.merge()
		for seq := range uint64(3) {
			require.NoError(t, b.bus.Delete(t.Context(), contract.StreamCompleted, seq+1))
		}
		require.True(t, b.verify(Daily, "2000-01-01").Sound())
		for info, err := range b.objects.List(t.Context(), contract.BucketArchive, "daily/") {
			require.NoError(t, err)
			require.NoError(t, b.objects.Delete(t.Context(), info.Ref))
		}
		r := b.verify(Weekly, "1999-W52")
		require.True(t, r.Sound())
		require.Equal(t, []int{3, 0}, []int{r.Documents, r.Compared})
		_, err := b.verifier().Verify(t.Context(), Day(time.Now()))
		require.ErrorIs(t, err, store.ErrNotFound)
		f, err := Find(t.Context(), b.objects, "a-1")
		require.NoError(t, err)
		require.Equal(t, Weekly, f.Period.Kind)
	})
}

func TestARecordOfAnOlderEpochIsNotHeldAgainstTheStream(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, b *bundle) {
		b.several("a", 3)
		b.archive(10)
		b.state = State{Epoch: 1, Known: true}
		b.write()
		require.True(t, b.verify(Daily, "2000-01-01").Sound())
	})
}
