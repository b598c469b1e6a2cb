package operate

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
)

// done completes a document that has raw objects and no result, as after the retention has
// removed that.
func (s *set) done(fileID, body string) []byte {
	s.t.Helper()
	o := original(fileID, body)
	s.keep(o, body)
	record := s.record(o)
	s.send(contract.CompletedSubject(o.Task, o.Provider), bus.Header{
		contract.HeaderFileID: fileID, contract.HeaderName: o.Name, contract.HeaderLane: string(o.Lane),
	}, string(record))
	return record
}

// counted is a store that counts what is read of the archive.
type counted struct {
	store.Store
	reads atomic.Int64
}

// Get implements store.Store.
func (c *counted) Get(ctx context.Context, r store.Ref) (*store.Object, error) {
	if r.Bucket == contract.BucketArchive {
		c.reads.Add(1)
	}
	return c.Store.Get(ctx, r)
}

// GetRange implements store.Ranger.
func (c *counted) GetRange(ctx context.Context, r store.Ref, offset, n int64) ([]byte, error) {
	c.reads.Add(1)
	return store.GetRange(ctx, c.Store, r, offset, n)
}

// refillFrom refills the line from the archive's volumes of some days.
func (s *set) refillFrom(days Selection, sel Selection) map[string]Refilled {
	s.t.Helper()
	all := map[string]Refilled{}
	a := &Archive{Store: s.store}
	r := Refill{Bus: s.bus, Ledger: s.ledger, Store: s.store, Archive: a}
	require.NoError(s.t, r.Run(s.t.Context(), &ArchivedDocuments{Archive: a, Days: days}, sel, func(one Refilled) {
		require.NotContains(s.t, all, one.FileID, "each is told once")
		all[one.FileID] = one
	}))
	return all
}

func today() string { return volume.Day(time.Now()).Name }

func TestALineIsRefilledFromTheArchive(t *testing.T) {
	t.Parallel()
	s := setup(t)
	records := map[string][]byte{"a": s.done("a", `{"n":1}`), "b": s.done("b", `{"n":2}`)}
	s.archive()
	s.forget()
	require.Empty(t, s.refillFrom(Selection{Dates: []string{"2025-01-27"}}, Selection{}), "it is the day when they were created")
	require.Len(t, s.refillFrom(Selection{Dates: []string{today()}}, Selection{FileID: "b"}), 1)
	all := s.refillFrom(Selection{Dates: []string{today()}}, Selection{})
	require.Equal(t, Refilled{Object: all["a"].Object, FileID: "a", Fate: RefillCompleted, Record: true, Ledger: true}, all["a"])
	require.Contains(t, all["a"].Object, "llm-raw/by_date/2025-01-27/20250127_143052_job_extraction_openai_a.json")
	require.Equal(t, Refilled{Object: all["b"].Object, FileID: "b", Fate: RefillCompleted}, all["b"])
	for _, m := range s.messages(contract.StreamCompleted) {
		require.Equal(t, records[m.Header[contract.HeaderFileID]], m.Body)
		require.Equal(t, contract.RestoredArchive, m.Header[contract.HeaderRestored])
		require.Equal(t, string(contract.High), m.Header[contract.HeaderLane])
	}
	require.Len(t, s.messages(contract.StreamCompleted), 2)
	require.Empty(t, s.messages(contract.StreamRaw))
	require.Zero(t, s.archive().Documents, "what came out of the archive is not archived again")
	require.Equal(t, Completed, s.find("a").State)
}

func TestTheArchiveIsReadOnceForManyDocuments(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for i := range 60 {
		s.done(fmt.Sprintf("doc-%d", i), fmt.Sprintf(`{"n":%d}`, i))
	}
	s.archive()
	s.forget()
	below := s.store
	for name, from := range map[string]func(a *Archive) Source{
		"archive": func(a *Archive) Source { return &ArchivedDocuments{Archive: a} },
		"raw":     func(*Archive) Source { return &RawObjects{Store: below, Views: contract.Views()} },
	} {
		reads := &counted{Store: below}
		a := &Archive{Store: reads}
		n := 0
		r := Refill{Bus: s.bus, Ledger: s.ledger, Store: below, Archive: a, DryRun: true}
		require.NoError(t, r.Run(t.Context(), from(a), Selection{}, func(one Refilled) {
			require.Equal(t, RefillCompleted, one.Fate, one.Error)
			n++
		}))
		require.Equal(t, 60, n)
		require.LessOrEqual(t, reads.reads.Load(), int64(8), name)
	}
}

// What the archive holds is not done again, although nothing else tells that it was done.
func TestRawObjectsOfArchivedDocumentsAreNotSent(t *testing.T) {
	t.Parallel()
	s := setup(t)
	record := s.done("a", `{"n":1}`)
	s.archive()
	s.forget()
	s.keep(original("new", "{}"), "{}")
	all := s.refill(Refill{Archive: &Archive{Store: s.store}}, Selection{})
	require.Equal(t, RefillCompleted, all["a"].Fate, all["a"].Error)
	require.Equal(t, RefillSent, all["new"].Fate)
	require.Equal(t, record, s.last(contract.StreamCompleted).Body)
}

func TestTheNewestRecordOfADocumentIsRestored(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.done("a", `{"n":1}`)
	s.archive()
	o := original("a", `{"n":1}`)
	second := strings.Replace(string(s.record(o)), `"stored"`, `"merged"`, 1)
	require.Contains(t, second, "merged")
	s.send(contract.CompletedSubject(o.Task, o.Provider), bus.Header{contract.HeaderFileID: "a", contract.HeaderName: o.Name}, second)
	s.archive()
	s.forget()
	all := s.refillFrom(Selection{}, Selection{})
	require.Equal(t, RefillCompleted, all["a"].Fate, all["a"].Error)
	require.Equal(t, second, string(s.last(contract.StreamCompleted).Body))
}

func TestALineIsRefilledFromAMonthWhoseDaysAreGone(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.done("a", `{"n":1}`)
	s.archive()
	s.forget()
	day := volume.Day(time.Now())
	_, err := volume.Merge(t.Context(), s.store, volume.Month(day.Start), volume.Limits{Documents: 10, Bytes: 1 << 20}, func(context.Context) error { return nil })
	require.NoError(t, err)
	require.NoError(t, s.store.Delete(t.Context(), day.Manifest()))
	require.Len(t, s.refillFrom(Selection{Dates: []string{day.Name}}, Selection{}), 1)
	require.Empty(t, s.refillFrom(Selection{Until: "2025-01-01"}, Selection{}))
}

func TestADamagedArchiveSendsNothing(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.done("a", `{"n":1}`)
	s.archive()
	s.forget()
	ref := store.Ref{Bucket: contract.BucketArchive, Key: volume.Day(time.Now()).IndexKey(1)}
	require.Nil(t, s.store.Put(t.Context(), store.Object{Ref: ref, Body: []byte("x")}))
	all := s.refill(Refill{Archive: &Archive{Store: s.store}}, Selection{})
	require.Equal(t, RefillFailed, all["a"].Fate)
	require.Contains(t, all["a"].Error, "is damaged")
	require.Empty(t, s.messages(contract.StreamRaw))
}

func TestReservedNamesAreNoRawObjects(t *testing.T) {
	t.Parallel()
	for _, views := range [][]contract.View{contract.Views(), {contract.ByProvider}} {
		s := setup(t)
		o := original("a", "{}")
		s.keep(o, "{}")
		if len(views) == 1 {
			for _, r := range s.keys(contract.BucketRaw, "by_date/") {
				require.NoError(t, s.store.Delete(t.Context(), r))
			}
		}
		for _, key := range []string{"_name/2025-01-27/x.json", "_inbox/x"} {
			require.Nil(t, s.store.Put(t.Context(), store.Object{Ref: store.Ref{Bucket: contract.BucketRaw, Key: key}, Body: []byte("{}"), Meta: o.Meta()}))
		}
		n := 0
		for k, err := range (&RawObjects{Store: s.store, Views: views}).Documents(t.Context()) {
			require.NoError(t, err)
			require.NotContains(t, k.Raw().Key, "_name")
			n++
		}
		require.Equal(t, 1, n)
		require.Error(t, Selection{Prefix: "_inbox/"}.Validate())
	}
}

// keys lists the objects under a prefix.
func (s *set) keys(bucket, prefix string) []store.Ref {
	s.t.Helper()
	var all []store.Ref
	for info, err := range s.store.List(s.t.Context(), bucket, prefix) {
		require.NoError(s.t, err)
		all = append(all, info.Ref)
	}
	return all
}
