package archive

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/stagetest"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
)

const oneDay = 24 * time.Hour

// complete brings a document to its end: its objects and its record are there.
func (b *bundle) complete(fileID, raw string) *doc.Document {
	b.t.Helper()
	in := ended(fileID)
	in.Metadata.Checksum = "sha256:" + doc.Sum([]byte(raw))
	b.put(in, raw)
	outs, err := b.stage(nil, nil).Handle(b.t.Context(), in)
	require.NoError(b.t, err)
	_, err = b.bus.Publish(b.t.Context(), bus.Message{
		Subject: outs[0].Subject, Body: outs[0].Body, Header: in.Headers(contract.Archive),
	})
	require.NoError(b.t, err)
	return in
}

// several completes documents named <name>-0 and so on.
func (b *bundle) several(name string, n int) {
	b.t.Helper()
	for i := range n {
		b.complete(fmt.Sprintf("%s-%d", name, i), `{"n": 1}`)
	}
}

func tick() *doc.Document { return &doc.Document{Timer: contract.CronArchive, Attempt: 1} }

// archive runs the timer once.
func (b *bundle) archive(settings map[string]string) error {
	outs, err := b.stage(settings, nil).Handle(b.t.Context(), tick())
	require.Empty(b.t, outs)
	return err
}

// now archives by hand, the running day too.
func (b *bundle) now() Done {
	b.t.Helper()
	done, err := Run(b.t.Context(), stagetest.Config[Config](b.t, nil), b.deps(), Options{Now: true})
	require.NoError(b.t, err)
	return done
}

func (b *bundle) deps() stage.Deps {
	return stage.Deps{Bus: b.bus, Store: b.objects, Clock: time.Now, Log: zerolog.Nop()}
}

func period(t *testing.T, kind volume.Kind, name string) volume.Period {
	t.Helper()
	p, err := volume.Parse(kind, name)
	require.NoError(t, err)
	return p
}

// volume reads a volume whole.
func (b *bundle) volume(kind volume.Kind, name string) (*volume.Manifest, []volume.Placed) {
	b.t.Helper()
	v, err := volume.Open(b.t.Context(), b.objects, period(b.t, kind, name))
	require.NoError(b.t, err)
	var all []volume.Placed
	for d, err := range v.Documents(b.t.Context()) {
		require.NoError(b.t, err)
		all = append(all, d)
	}
	require.Len(b.t, all, v.Manifest.Documents)
	return v.Manifest, all
}

// none requires that there is no such volume.
func (b *bundle) none(kind volume.Kind, name string) {
	b.t.Helper()
	_, err := volume.Open(b.t.Context(), b.objects, period(b.t, kind, name))
	require.ErrorIs(b.t, err, store.ErrNotFound)
}

func TestADayIsArchivedWhenItIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		require.NoError(t, b.archive(nil), "nothing to do is no error")
		b.several("doc", 2)
		require.NoError(t, b.archive(nil))
		b.none(volume.Daily, "2000-01-01")
		pass(oneDay)
		require.NoError(t, b.archive(nil))
		b.none(volume.Daily, "2000-01-01")
		pass(dayGrace)
		require.NoError(t, b.archive(nil))
		m, docs := b.volume(volume.Daily, "2000-01-01")
		require.Len(t, m.Parts, 1)
		require.Equal(t, "doc-1", docs[1].Header[contract.HeaderFileID])
		require.NoError(t, b.archive(nil))
		again, _ := b.volume(volume.Daily, "2000-01-01")
		require.Equal(t, m, again, "nothing more to do")
	})
}

func TestARecordOfTheNextDayEndsADay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.several("doc", 2)
		pass(oneDay)
		b.complete("next", "{}")
		require.NoError(t, b.archive(nil))
		b.volume(volume.Daily, "2000-01-01")
		b.none(volume.Daily, "2000-01-02")
	})
}

func TestALineGivesBackEveryObject(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.complete("doc-1", `{"a": 1}`)
		b.complete("doc-2", "\xff\xfe")
		gone := b.complete("doc-3", "{}")
		for _, o := range gone.Views(contract.ClassValidated, nil) {
			require.NoError(t, b.objects.Delete(t.Context(), o.Ref))
		}
		half := b.complete("doc-4", "{}")
		require.NoError(t, b.objects.Delete(t.Context(), half.Views(contract.ClassRaw, nil)[0].Ref))
		require.Equal(t, Done{Documents: 4, Parts: 1}, b.now())

		_, docs := b.volume(volume.Daily, "2000-01-01")
		for i, raw := range []string{`{"a": 1}`, "\xff\xfe", "{}", "{}"} {
			d := docs[i]
			m, err := b.bus.Get(t.Context(), contract.StreamCompleted, d.Seq)
			require.NoError(t, err)
			require.Equal(t, m.Body, d.Record)
			require.Equal(t, m.Subject, d.Subject)
			require.Equal(t, m.Time.UTC(), d.CompletedAt)
			for name, value := range d.Header {
				require.Equal(t, m.Header[name], value)
			}
			require.NotEmpty(t, d.Header[contract.HeaderFileID])
			require.Equal(t, raw, string(d.Objects[0].Body))
			for _, o := range d.Stored() {
				have, err := b.objects.Get(t.Context(), o.Ref)
				if o.Ref == half.Views(contract.ClassRaw, nil)[0].Ref {
					require.ErrorIs(t, err, store.ErrNotFound)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, have.Body, o.Body)
				require.Equal(t, have.ContentType, o.ContentType)
				if len(have.Meta) > 0 {
					require.Equal(t, have.Meta, o.Meta)
				}
			}
		}
		require.Len(t, docs[0].Stored(), 13)
		require.Len(t, docs[2].Stored(), 10)
		require.Len(t, docs[2].Missing, 3)
		require.Len(t, docs[3].Stored(), 13, "another view was read")
	})
}

func TestFullPartsAreWrittenAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.several("doc", 70)
		small := map[string]string{"ARCHIVE_PART_DOCUMENTS": "30"}
		require.NoError(t, b.archive(small))
		m, _ := b.volume(volume.Daily, "2000-01-01")
		require.Len(t, m.Parts, 2)
		require.Equal(t, 60, m.Documents)
		b.complete("big-1", strings.Repeat("x", 5000))
		b.complete("big-2", strings.Repeat("x", 5000))
		require.NoError(t, b.archive(map[string]string{"ARCHIVE_PART_BYTES": "20000"}))
		m, docs := b.volume(volume.Daily, "2000-01-01")
		require.Len(t, m.Parts, 4)
		require.Len(t, docs, 72)
		seen := map[uint64]bool{}
		for _, d := range docs {
			require.False(t, seen[d.Seq])
			seen[d.Seq] = true
		}
	})
}

func TestWhatCompletesAfterTheDayWasClosedAmendsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.several("doc", 2)
		require.Equal(t, 2, b.now().Documents)
		b.complete("late", "{}")
		require.NoError(t, b.archive(nil))
		m, _ := b.volume(volume.Daily, "2000-01-01")
		require.Len(t, m.Parts, 1)
		pass(oneDay + dayGrace)
		require.NoError(t, b.archive(nil))
		m, docs := b.volume(volume.Daily, "2000-01-01")
		require.Len(t, m.Parts, 2)
		require.Len(t, docs, 3)
	})
}

// snapshot returns every object of the archive.
func (b *bundle) snapshot() map[string]string {
	b.t.Helper()
	all := map[string]string{}
	for info, err := range b.objects.List(b.t.Context(), contract.BucketArchive, "") {
		require.NoError(b.t, err)
		o, err := b.objects.Get(b.t.Context(), info.Ref)
		require.NoError(b.t, err)
		all[info.Key] = doc.Sum(o.Body)
	}
	return all
}

// days completes documents on some days from the first of January on, which is a Saturday.
func (b *bundle) days() {
	b.t.Helper()
	for day, n := range []int{1, 2, 0, 4, 0, 1, 2, 0, 0, 0, 1} {
		b.several(fmt.Sprintf("day%d", day), n)
		pass(oneDay)
	}
}

// Invariant: killed at any point and run again, no document twice and none lost, and the same
// bytes as if nothing had happened.
func TestARunThatIsKilledAnywhereLeavesTheSameBytes(t *testing.T) {
	t.Parallel()
	settings := map[string]string{"ARCHIVE_PART_DOCUMENTS": "3"}
	var want map[string]string
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.days()
		require.NoError(t, b.archive(settings))
		want = b.snapshot()
	})
	require.Contains(t, want, "daily/2000-01-04/part-2.jsonl.zst")
	require.Contains(t, want, "weekly/1999-W52/part-1.jsonl.zst")
	require.Contains(t, want, "weekly/2000-W01/part-3.jsonl.zst")
	for _, how := range []*failing{{writes: true}, {writes: true, after: true}, {}} {
		points := int64(0)
		for kill := int64(1); points == 0; kill += how.step() {
			synctest.Test(t, func(t *testing.T) {
				b := setup(t)
				b.days()
				f := &failing{Store: b.objects, from: kill, to: 1 << 40, after: how.after, writes: how.writes}
				h := b.stage(settings, func(d *stage.Deps) {
					d.Store, d.Bus = f, failingBus{b.bus, f}
				})
				_, err := h.Handle(t.Context(), tick())
				if err == nil {
					points = kill
				}
				pass(leaseTTL + time.Second)
				require.NoError(t, b.archive(settings))
				require.Equal(t, want, b.snapshot(), "killed at call %d, after %v", kill, how.after)
			})
		}
		require.Greater(t, points, int64(50), "the test has killed too little")
	}
}

// step leaves out some of the many calls that only read.
func (f *failing) step() int64 {
	if f.writes {
		return 1
	}
	return 5
}

func TestARecordThatIsNoneIsKeptAsItIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		bodies := []string{"no json \xff", `{"objects":7}`, "", "null"}
		for _, body := range bodies {
			_, err := b.bus.Publish(t.Context(), bus.Message{Subject: "llm.completed.x.y", Body: []byte(body)})
			require.NoError(t, err)
		}
		b.now()
		_, docs := b.volume(volume.Daily, "2000-01-01")
		for i, body := range bodies {
			require.Equal(t, body, string(docs[i].Record))
		}
	})
}
