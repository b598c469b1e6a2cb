package archive

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/stagetest"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
)

// volumes returns the periods that have a volume.
func (l *line) volumes() []string {
	l.t.Helper()
	all := []string{}
	for _, kind := range volume.Kinds() {
		for p, err := range volume.Periods(l.t.Context(), l.objects, kind) {
			require.NoError(l.t, err)
			all = append(all, p.String())
		}
	}
	return all
}

// turns completes two documents, one on each side of the turn of a month within one week, and
// archives their days, their week and their months. It is the first of March, and the
// record of the first is leaving its stream.
func (l *line) turns() {
	l.t.Helper()
	until(l.t, "2000-01-31") // a Monday
	l.complete("old", `{"n": 1}`)
	until(l.t, "2000-02-01")
	l.complete("new", `{"n": 2}`)
	until(l.t, "2000-02-08")
	require.NoError(l.t, l.tick())
	until(l.t, "2000-03-01")
	require.NoError(l.t, l.tick())
	require.Equal(l.t, []string{"daily/2000-01-31", "daily/2000-02-01", "weekly/2000-W05", "monthly/2000-01", "monthly/2000-02"}, l.volumes())
}

// find looks a document up in the archive and returns the volume that has it.
func (l *line) find(fileID string) string {
	l.t.Helper()
	f, err := volume.Find(l.t.Context(), l.objects, fileID)
	require.NoError(l.t, err)
	return f.Period.String()
}

func TestVolumesAreRemovedWhenLongerOnesHoldThem(t *testing.T) {
	t.Parallel()
	onLine(t, func(t *testing.T, l *line) {
		l.turns()
		before := l.keys()
		l.storage.Retention.Daily = "1d"
		pass(3 * oneDay)
		require.NoError(t, l.tick())
		require.Equal(t, []string{"weekly/2000-W05", "monthly/2000-01", "monthly/2000-02"}, l.volumes())
		require.Equal(t, "weekly/2000-W05", l.find("old"))
		l.sound()

		l.storage.Retention.Weekly = "10d"
		require.NoError(t, l.tick())
		require.Equal(t, []string{"monthly/2000-01", "monthly/2000-02"}, l.volumes())
		require.Equal(t, "monthly/2000-01", l.find("old"))
		require.Equal(t, "monthly/2000-02", l.find("new"))
		l.sound()
		require.Equal(t, before, l.keys(), "no view was removed")

		l.storage.Retention.Raw = "32d"
		require.NoError(t, l.tick())
		require.Len(t, l.left("old"), 10, "a month holds the day's documents")
		require.Len(t, l.left("new"), 13, "its time is not over")
		l.storage.Retention.Monthly = "365d"
		until(t, "2001-02-01")
		require.NoError(t, l.tick())
		require.Equal(t, []string{"monthly/2000-02"}, l.volumes())
		require.Len(t, l.left("new"), 10)
		l.sound()
		notes := l.snapshot()
		for _, key := range []string{"daily/2000-01-31/removed.json", "weekly/2000-W05/removed.json", "monthly/2000-01/removed.json"} {
			require.Contains(t, notes, key)
		}
		require.NotContains(t, notes, "daily/2000-01-31/part-1.jsonl.zst")
		require.NotContains(t, notes, "daily/2000-01-31/index-1.json.zst")
	})
}

func TestWhatKeepsAVolume(t *testing.T) {
	t.Parallel()
	object := func(key string) store.Ref { return store.Ref{Bucket: contract.BucketArchive, Key: key} }
	gone := func(key string) func(l *line) {
		return func(l *line) { require.NoError(l.t, l.objects.Delete(l.t.Context(), object(key))) }
	}
	damaged := func(key string) func(l *line) {
		return func(l *line) {
			o, err := l.objects.Get(l.t.Context(), object(key))
			require.NoError(l.t, err)
			o.Body[len(o.Body)/2] ^= 1
			require.Nil(l.t, l.objects.Put(l.t.Context(), *o))
		}
	}
	tests := []struct {
		name    string
		prepare func(l *line)
		why     string // it is kept
		failed  bool
		soon    bool // is looked: the records of the second day are in their stream
	}{
		{name: "nothing"},
		{name: "its records are still in the stream", why: "LLM_COMPLETED still has records of then", soon: true},
		{name: "a legal hold", prepare: func(l *line) { l.storage.LegalHold = []string{"llm-archive/daily/2000-01"} }, why: "a legal hold is on llm-archive/daily/2000-01-31/manifest.json"},
		{name: "there is no week", prepare: gone("weekly/2000-W05/manifest.json"), why: "weekly/2000-W05 does not hold daily/2000-01-31/part-1.jsonl.zst", failed: true},
		{name: "there is no month", prepare: gone("monthly/2000-01/manifest.json"), why: "monthly/2000-01 does not hold daily/2000-01-31/part-1.jsonl.zst", failed: true},
		{name: "the week is damaged", prepare: damaged("weekly/2000-W05/part-1.jsonl.zst"), why: "weekly/2000-W05 is not verified", failed: true},
		{name: "the month is damaged", prepare: damaged("monthly/2000-01/part-1.jsonl.zst"), why: "monthly/2000-01 is not verified", failed: true},
		{name: "the manifest of the month is damaged", prepare: damaged("monthly/2000-01/manifest.json"), why: "monthly/2000-01/manifest.json is damaged", failed: true},
		{name: "the day itself is damaged", prepare: damaged("daily/2000-01-31/manifest.json"), why: "daily/2000-01-31/manifest.json is damaged", failed: true},
		{name: "the week may lack a part", why: "weekly/2000-W05 is not up to date", prepare: func(l *line) {
			kv, err := l.bus.KV(l.t.Context(), contract.KVJoin)
			require.NoError(l.t, err)
			s, rev, err := volume.ReadState(l.t.Context(), kv)
			require.NoError(l.t, err)
			s.Touch(volume.Day(time.Date(2000, 1, 31, 0, 0, 0, 0, time.UTC)))
			_, err = s.Write(l.t.Context(), kv, rev)
			require.NoError(l.t, err)
		}},
		{name: "the policy", prepare: func(l *line) { l.storage.Retention.Daily = policy.Keep }, why: "-"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			onLine(t, func(t *testing.T, l *line) {
				l.turns()
				l.storage.Retention.Daily = "1d"
				of := "daily/2000-02-01"
				if !tt.soon {
					of = "daily/2000-01-31"
					pass(3 * oneDay)
				}
				if tt.prepare != nil {
					tt.prepare(l)
				}
				all := l.snapshot()
				require.Equal(t, l.expire(ExpireOptions{DryRun: true}), l.report(of, tt.why, tt.failed))
				for key, sum := range all {
					if strings.HasPrefix(key, of) && tt.why != "" {
						require.Equal(t, sum, l.snapshot()[key])
					} else if strings.HasPrefix(key, of) {
						require.NotContains(t, l.snapshot(), key)
					}
				}
			})
		})
	}
}

// report removes and looks for what is told of a volume: nothing where why is "-".
func (l *line) report(period, why string, failed bool) []Expired {
	l.t.Helper()
	all := l.expire(ExpireOptions{})
	at := slices.IndexFunc(all, func(x Expired) bool { return x.Period == period })
	if why == "-" {
		require.Negative(l.t, at)
		return all
	}
	require.Contains(l.t, all[at].Why, why)
	require.Equal(l.t, failed, all[at].Failed, all[at].Why)
	require.Equal(l.t, why == "", all[at].Removed == 3, "manifest, part and index")
	return all
}

func TestAMonthGoesAfterItsDaysAndWeeks(t *testing.T) {
	t.Parallel()
	onLine(t, func(t *testing.T, l *line) {
		l.turns()
		l.storage.LegalHold = []string{"llm-archive/daily/2000-01-31/"}
		l.storage.Retention.Daily, l.storage.Retention.Monthly = "1d", "1d"
		until(t, "2000-04-01")
		report := l.expire(ExpireOptions{})
		require.Equal(t, []string{"daily/2000-01-31", "weekly/2000-W05", "monthly/2000-01"}, l.volumes())
		at := slices.IndexFunc(report, func(x Expired) bool { return x.Period == "monthly/2000-01" })
		require.Equal(t, "daily/2000-01-31 goes first", report[at].Why)
		l.sound()
	})
}

// The removal of a volume that was begun ends, unless something came between.
func TestARemovalThatWasBegunEnds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		between func(l *line)
		there   bool // after the second look
	}{
		{"nothing came between", nil, false},
		{"a hold was laid on it", func(l *line) { l.storage.LegalHold = []string{"llm-archive/daily/2000-01-31/"} }, true},
		{"the volume has one more part", func(l *line) {
			day := volume.Day(time.Date(2000, 1, 31, 0, 0, 0, 0, time.UTC))
			var b volume.Builder
			require.NoError(l.t, b.Add(volume.New(&bus.Stored{Seq: 99, Time: day.Start.Add(time.Hour), Subject: "llm.completed.x.y", Body: []byte("{}")})))
			require.NoError(l.t, volume.Append(l.t.Context(), l.objects, day, &b, 0))
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			onLine(t, func(t *testing.T, l *line) {
				l.turns()
				pass(3 * oneDay)
				l.storage.Retention.Daily = "1d"
				deps := l.deps()
				deps.Store = removeFails{l.objects}
				_, err := Expire(t.Context(), stagetest.Config[Config](t, nil), deps, ExpireOptions{})
				require.ErrorIs(t, err, errKilled)
				require.Contains(t, l.volumes(), "daily/2000-01-31")
				if tt.between != nil {
					tt.between(l)
				}
				l.expire(ExpireOptions{})
				require.Equal(t, tt.there, slices.Contains(l.volumes(), "daily/2000-01-31"))
				if !tt.there {
					l.sound()
				}
			})
		})
	}
}

// removeFails is a store that removes nothing.
type removeFails struct{ store.Store }

// Remove implements store.Store.
func (removeFails) Remove(_ context.Context, refs ...store.Ref) []error {
	return slices.Repeat([]error{errKilled}, len(refs))
}
