package archive

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/stagetest"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
)

const (
	rawByDate     = "llm-raw/by_date/2000-01-01/a.json"
	rawByProvider = "llm-raw/by_provider/openai/a.json"
	rawByTask     = "llm-raw/by_task_type/job_extraction/a.json"
)

// Two documents complete on the first of January, raw objects stay for two days, and it is
// looked on the fifth. What a case has left of the raw objects of the first document is
// compared; the second one's are gone unless nothing is removed.
func TestWhatStaysOfTheViewsThatAreOverTheirTime(t *testing.T) {
	t.Parallel()
	all := []string{rawByDate, rawByProvider, rawByTask}
	overwrite := func(change func(*store.Object)) func(l *line) {
		return func(l *line) {
			o, err := l.objects.Get(l.t.Context(), store.Ref{Bucket: "llm-raw", Key: "by_provider/openai/a.json"})
			require.NoError(l.t, err)
			change(o)
			require.Nil(l.t, l.objects.Put(l.t.Context(), *o))
		}
	}
	names := func(subject, header string) func(l *line) {
		return func(l *line) { l.publish(subject, bus.Header{header: rawByDate}) }
	}
	underWay := func(subject string) func(l *line) {
		return func(l *line) { l.publish(subject, bus.Header{contract.HeaderFileID: "a"}) }
	}
	enrich := contract.StageSubject(contract.Enrich, contract.Normal, "job_extraction", "openai")
	tests := []struct {
		name    string
		prepare func(l *line) // when the day is archived
		left    []string
		kept    Kept
		nothing bool // is removed of the other document either
	}{
		{name: "nothing keeps them"},
		{name: "one is gone already", prepare: func(l *line) {
			require.NoError(l.t, l.objects.Delete(l.t.Context(), store.Ref{Bucket: "llm-raw", Key: "by_date/2000-01-01/a.json"}))
		}},
		{
			name: "one has other bytes than the archive", left: []string{rawByProvider}, kept: Kept{Changed: 1},
			prepare: overwrite(func(o *store.Object) { o.Body = []byte("other") }),
		},
		{
			name: "one has other metadata than the archive", left: []string{rawByProvider}, kept: Kept{Changed: 1},
			prepare: overwrite(func(o *store.Object) { o.Meta = map[string]string{"file-id": "b"} }),
		},
		{
			name: "one is under a legal hold", left: []string{rawByTask}, kept: Kept{Held: 1},
			prepare: func(l *line) { l.storage.LegalHold = []string{"llm-raw/by_task_type/job_extraction/a"} },
		},
		{name: "a queued message names one", left: []string{rawByDate}, kept: Kept{Named: 1}, prepare: names(enrich, contract.HeaderObject)},
		{
			name: "a dead letter names one", left: []string{rawByDate}, kept: Kept{Named: 1},
			prepare: names(contract.DLQSubject(contract.Enrich, contract.ReasonSchema), contract.HeaderObject),
		},
		{
			name: "a refill names one", left: []string{rawByDate}, kept: Kept{Named: 1},
			prepare: names(contract.RawSubject("job_extraction", "openai", ""), contract.HeaderRefillOf),
		},
		{name: "a dead letter of the document names none", prepare: underWay(contract.DLQSubject(contract.Enrich, contract.ReasonSchema))},
		{name: "the document is on its way again", left: all, kept: Kept{Named: 3}, prepare: underWay(enrich)},
		{name: "the document waits for a retry", left: all, kept: Kept{Named: 3}, prepare: underWay(contract.RetrySubject(contract.Enrich, "a", 0))},
		{
			name: "the document has a record that is not archived", left: all, kept: Kept{Named: 3},
			prepare: func(l *line) { pass(4*oneDay - time.Minute); underWay("llm.completed.job_extraction.openai")(l) },
		},
		{
			name: "the volume is not sound", left: all, nothing: true,
			prepare: func(l *line) {
				o, err := l.objects.Get(l.t.Context(), store.Ref{Bucket: "llm-archive", Key: "daily/2000-01-01/part-1.jsonl.zst"})
				require.NoError(l.t, err)
				o.Body[len(o.Body)/2] ^= 1
				require.Nil(l.t, l.objects.Put(l.t.Context(), *o))
			},
		},
		{
			name: "the manifest is damaged", left: all, nothing: true,
			prepare: func(l *line) {
				require.Nil(l.t, l.objects.Put(l.t.Context(), store.Object{Ref: volume.Day(time.Now().Add(-oneDay)).Manifest(), Body: []byte("{}")}))
			},
		},
		{
			name: "the day is in no volume", left: all, nothing: true,
			prepare: func(l *line) {
				require.NoError(l.t, l.objects.Delete(l.t.Context(), volume.Day(time.Now().Add(-oneDay)).Manifest()))
			},
		},
		{
			name: "the policy keeps them", left: all, nothing: true,
			prepare: func(l *line) { l.storage.Retention.Raw = policy.Keep },
		},
		{
			name: "their time is not over", left: all, nothing: true,
			prepare: func(l *line) { l.storage.Retention.Raw = "73h" },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			onLine(t, func(t *testing.T, l *line) {
				l.complete("a", `{"a": 1}`)
				other := l.complete("b", `{"b": 1}`)
				l.storage.Retention.Raw = "2d"
				until(t, "2000-01-02")
				require.NoError(t, l.tick())
				if tt.prepare != nil {
					tt.prepare(l)
				}
				before := l.keys()
				pass(time.Until(time.Date(2000, 1, 4, 23, 59, 0, 0, time.UTC)))
				would := l.expire(ExpireOptions{DryRun: true})
				require.Equal(t, before, l.keys(), "a dry run changes nothing")
				report := l.expire(ExpireOptions{})
				require.Equal(t, would, report, "a dry run tells what is done")

				require.Equal(t, tt.left, keep(l.left("a"), "llm-raw/"))
				require.Len(t, keep(l.left("a"), "llm-processed/"), 9, "they have no limit")
				if tt.nothing {
					require.Len(t, l.left("b"), 13)
					return
				}
				require.Empty(t, keep(l.left("b"), "llm-raw/"))
				require.Len(t, refs(other, contract.ClassRaw), 3)
				require.Len(t, report, 1)
				require.Equal(t, tt.kept, report[0].Kept)
				require.Equal(t, []string{"raw", "2000-01-01", "daily/2000-01-01"}, []string{report[0].Class, report[0].Period, report[0].Volume})
				require.Equal(t, len(before)-len(l.keys()), report[0].Removed)
			})
		})
	}
}

func TestEachClassHasItsLimit(t *testing.T) {
	t.Parallel()
	onLine(t, func(t *testing.T, l *line) {
		l.complete("a", `{"a": 1}`)
		name := store.Object{Ref: store.Ref{Bucket: "llm-raw", Key: "_name/2000-01-01/a.json"}, Body: []byte("a")}
		require.Nil(t, l.objects.Put(t.Context(), name))
		l.storage.Retention = policy.Retention{
			Raw: "24h", Validated: "2d", Enriched: "3d", Standardized: "4d", Results: "5d",
			Scraped: policy.Keep, Exports: policy.Keep, Inbox: policy.Keep, Claims: policy.Keep,
			Daily: policy.Keep, Weekly: policy.Keep, Monthly: policy.Keep,
		}
		left := []int{}
		for range 7 {
			pass(oneDay)
			pass(dayGrace)
			require.NoError(t, l.tick())
			left = append(left, len(l.left("a")))
		}
		require.Equal(t, []int{14, 11, 8, 5, 2, 1, 1}, left, "the limit counts from the end of the day")
		require.Equal(t, []string{"llm-raw/_name/2000-01-01/a.json"}, l.left("a"))
		l.sound()
	})
}

// What a record names counts only where it is a view of the document.
func TestReservedNamesAreNeverRemoved(t *testing.T) {
	t.Parallel()
	onLine(t, func(t *testing.T, l *line) {
		in := ended("a")
		in.Outcome.Objects = []store.Ref{
			{Bucket: "llm-raw", Key: "_name/2000-01-01/a.json"},
			{Bucket: "llm-raw", Key: "_inbox/a.json"},
			{Bucket: "llm-processed", Key: "_claim/a/a.json"},
			{Bucket: "llm-dlq", Key: "by_date/2000-01-01/a.json"},
			{Bucket: "llm-raw", Key: "by_date/2000-01-01/deeper/a.json"},
		}
		var objects []store.Object
		for _, r := range in.Outcome.Objects {
			objects = append(objects, store.Object{Ref: r, Body: []byte("{}")})
		}
		require.Nil(t, l.objects.Put(t.Context(), objects...))
		l.put(in, "{}")
		l.end(in)
		r := &l.storage.Retention
		r.Raw, r.Validated, r.Enriched, r.Standardized, r.Results = "1h", "1h", "1h", "1h", "1h"
		until(t, "2000-01-03")
		require.NoError(t, l.tick())
		require.Len(t, l.left("a"), 5)
		for _, r := range in.Outcome.Objects {
			_, err := l.objects.Stat(t.Context(), r)
			require.NoError(t, err, r.String())
		}
	})
}

func TestALineOfVersionOneRemovesNothing(t *testing.T) {
	t.Parallel()
	onLine(t, func(t *testing.T, l *line) {
		l.complete("a", `{"a": 1}`)
		l.now()
		v, docs := l.volume(volume.Daily, "2000-01-01")
		require.Len(t, v.Parts, 1)
		d := docs[0].Document
		require.True(t, d.Exact)
		l.downgrade(d)
		l.storage.Retention.Raw = "24h"
		until(t, "2000-01-05")
		report := l.expire(ExpireOptions{})
		require.Len(t, l.left("a"), 13)
		require.Equal(t, Kept{Inexact: 3}, report[0].Kept)
	})
}

func TestARestoreStaysForItsTimeAgain(t *testing.T) {
	t.Parallel()
	onLine(t, func(t *testing.T, l *line) {
		l.complete("a", `{"a": 1}`)
		all := l.left("a")
		l.storage.Retention.Raw, l.storage.Retention.Results = "2d", "2d"
		until(t, "2000-01-04")
		require.NoError(t, l.tick())
		require.Len(t, l.left("a"), 9)

		until(t, "2000-01-20")
		day := period(t, volume.Daily, "2000-01-01")
		require.NoError(t, Restoring(t.Context(), l.deps(), day))
		done, err := volume.Restore{Store: l.objects}.Run(t.Context(), day)
		require.NoError(t, err)
		require.Equal(t, 4, done.Written)
		require.Equal(t, all, l.left("a"))
		for range 2 {
			require.NoError(t, l.tick())
			l.expire(ExpireOptions{})
			require.Equal(t, all, l.left("a"))
			pass(oneDay - time.Minute)
		}
		pass(time.Hour)
		require.NoError(t, l.tick())
		require.Len(t, l.left("a"), 9, "its time is over again")
	})
}

func TestARestoreWaitsForWhoeverRemoves(t *testing.T) {
	t.Parallel()
	onLine(t, func(t *testing.T, l *line) {
		kv, err := l.bus.KV(t.Context(), contract.KVJoin)
		require.NoError(t, err)
		held, _, err := takeLease(t.Context(), kv)
		require.NoError(t, err)
		day := period(t, volume.Daily, "2000-01-01")
		require.ErrorIs(t, Restoring(t.Context(), l.deps(), day), ErrBusy)
		require.NoError(t, held.release())
		require.NoError(t, Restoring(t.Context(), l.deps(), day))
		at, err := volume.ReadRestored(t.Context(), l.objects, day)
		require.NoError(t, err)
		require.Equal(t, time.Now().UTC(), at)
	})
}

func TestADayThatWasGoneThroughIsAskedAgainOnlyForAReason(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		first  func(l *line) // before the first look
		second func(l *line) // before the second
		left   int
	}{
		{"a view that came back by itself is left alone", nil, func(l *line) {
			require.Nil(l.t, l.objects.Put(l.t.Context(), store.Object{Ref: store.Ref{Bucket: "llm-raw", Key: "by_date/2000-01-01/a.json"}, Body: []byte("{}")}))
		}, 11},
		{"a hold was lifted", func(l *line) { l.storage.LegalHold = []string{"llm-raw/"} }, func(l *line) { l.storage.LegalHold = nil }, 10},
		{"a hold stays", func(l *line) { l.storage.LegalHold = []string{"llm-raw/"} }, nil, 13},
		{
			"what named it has left", func(l *line) {
				l.publish(contract.DLQSubject(contract.Enrich, contract.ReasonSchema), bus.Header{contract.HeaderObject: rawByDate})
			}, func(l *line) { require.NoError(l.t, l.bus.Delete(l.t.Context(), contract.StreamDLQ, 1)) }, 10,
		},
		{"a limit was set for another class", nil, func(l *line) { l.storage.Retention.Validated = "2d" }, 7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			onLine(t, func(t *testing.T, l *line) {
				l.complete("a", `{}`)
				l.storage.Retention.Raw = "2d"
				if tt.first != nil {
					tt.first(l)
				}
				until(t, "2000-01-05")
				require.NoError(t, l.tick())
				if tt.second != nil {
					tt.second(l)
				}
				pass(oneDay)
				require.NoError(t, l.tick())
				require.Len(t, l.left("a"), tt.left)
			})
		})
	}
}

func TestAClockThatJumpedBackRemovesNothing(t *testing.T) {
	t.Parallel()
	onLine(t, func(t *testing.T, l *line) {
		l.complete("a", "{}")
		l.storage.Retention.Raw = "2d"
		until(t, "2000-01-05")
		ahead := l.deps()
		ahead.Clock = func() time.Time { return time.Now().Add(oneDay) }
		l.storage.Retention.Raw = "30d"
		_, err := Expire(t.Context(), stagetest.Config[Config](t, nil), ahead, ExpireOptions{})
		require.NoError(t, err)
		l.storage.Retention.Raw = "2d"
		require.NoError(t, l.tick(), "archiving goes on")
		require.Len(t, l.left("a"), 13)
		pass(oneDay)
		require.NoError(t, l.tick())
		require.Len(t, l.left("a"), 10, "the clock counts that was there for a day")
	})
}

func TestBucketsWithOtherNamesAreExpiredToo(t *testing.T) {
	t.Parallel()
	for _, hold := range []string{"llm-raw/by_date/", "acme-raw/by_date/"} {
		onLine(t, func(t *testing.T, l *line) {
			names := store.Names{contract.BucketRaw: "acme-raw", contract.BucketProcessed: "acme-processed"}
			for _, name := range names {
				_, err := l.objects.EnsureBucket(t.Context(), name)
				require.NoError(t, err)
			}
			l.objects = store.Rename(l.objects, names)
			deps := l.deps()
			deps.Names = names
			in := ended("a")
			l.put(in, "{}")
			outs, err := l.stage(nil, func(d *stage.Deps) { d.Names = names }).Handle(t.Context(), in)
			require.NoError(t, err)
			_, err = l.bus.Publish(t.Context(), bus.Message{Subject: outs[0].Subject, Body: outs[0].Body, Header: in.Headers(contract.Archive)})
			require.NoError(t, err)
			l.storage.Retention.Raw, l.storage.Retention.Enriched = "2d", "2d"
			l.storage.Buckets, l.storage.LegalHold = names, []string{hold}
			l.publish(contract.StageSubject(contract.Enrich, contract.Normal, "job_extraction", "openai"), bus.Header{
				contract.HeaderObject: "llm-raw/by_provider/openai/a.json",
			})
			until(t, "2000-01-05")
			_, err = Run(t.Context(), stagetest.Config[Config](t, nil), deps, Options{})
			require.NoError(t, err)
			_, err = Expire(t.Context(), stagetest.Config[Config](t, nil), deps, ExpireOptions{})
			require.NoError(t, err)
			require.Equal(t, []string{rawByDate, rawByProvider}, keep(l.left("a"), "llm-raw/"))
			require.Empty(t, keep(l.left("a"), "llm-processed/enriched"))
			require.Len(t, l.left("a"), 9)
		})
	}
}

// A document that was replayed has two records, which name the same objects: each
// is removed by the record that is about its bytes.
func TestWhatASecondRecordIsAboutStaysForItsTime(t *testing.T) {
	t.Parallel()
	onLine(t, func(t *testing.T, l *line) {
		l.storage.Retention.Raw, l.storage.Retention.Enriched = "2d", "2d"
		in := ended("a")
		l.put(in, "{}")
		l.end(in)
		until(t, "2000-01-03")
		require.NoError(t, l.tick())
		again := store.Object{Body: []byte(`{"patched":1}`)}
		for _, again.Ref = range refs(in, contract.ClassEnriched) {
			require.Nil(t, l.objects.Put(t.Context(), again))
		}
		l.end(in)
		until(t, "2000-01-04")
		require.NoError(t, l.tick())
		require.Len(t, l.left("a"), 10)
		require.Len(t, keep(l.left("a"), "llm-processed/enriched/"), 3, "the first record is about other bytes")
		until(t, "2000-01-07")
		require.NoError(t, l.tick())
		require.Len(t, l.left("a"), 7)
		l.sound()
	})
}
