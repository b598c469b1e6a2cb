package operate

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/inbox"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/store"
)

var created = time.Date(2025, 1, 27, 14, 30, 52, 0, time.UTC)

// original is what ingest decided of a document.
func original(fileID, body string) doc.Original {
	return doc.Original{
		FileID: fileID, Name: doc.FileName(created, "job_extraction", "openai", "", fileID), Task: "job_extraction",
		Provider: "openai", Lane: contract.High, CreatedAt: created, SHA256: sum(body),
	}
}

// keep stores the raw objects of a document, as ingest does.
func (s *set) keep(o doc.Original, body string) {
	s.t.Helper()
	for _, ref := range doc.Views(contract.ClassRaw, contract.Views(), o.CreatedAt, o.Provider, o.Task, o.Name) {
		require.Empty(s.t, s.store.Put(s.t.Context(), store.Object{Ref: ref, Body: []byte(body), Meta: o.Meta()}))
	}
}

// metadata is what the result and the record say of a document.
func metadata(o doc.Original) doc.Metadata {
	return doc.Metadata{
		FileID: o.FileID, CreatedAt: o.CreatedAt, TaskType: o.Task, Provider: o.Provider, Schema: "job_extraction/1",
		ProcessingStatus: contract.StatusAggregated, Checksum: "sha256:" + o.SHA256, FileSize: 2, Priority: o.Lane,
	}
}

// result stores the result of a document, as aggregate does.
func (s *set) result(o doc.Original) {
	s.t.Helper()
	body, err := codec.Marshal(map[string]any{"metadata": metadata(o), "outcome": "stored", "jobs": []int{}, "sources": []int{}})
	require.NoError(s.t, err)
	require.Empty(s.t, s.store.Put(s.t.Context(), store.Object{Ref: doc.ResultRef(o.CreatedAt, o.FileID), Body: body}))
}

// record returns the terminal record of a document, as archive publishes it.
func (s *set) record(o doc.Original) []byte {
	s.t.Helper()
	body, err := codec.Marshal(doc.Record{
		Metadata: metadata(o), Outcome: contract.OutcomeStored, Objects: []store.Ref{}, Sources: []doc.SourceReport{},
		Timeline: []doc.Step{{Stage: contract.Archive, At: created, MS: 1}},
	})
	require.NoError(s.t, err)
	return body
}

// refill refills the line and returns what became of each document, by file_id.
func (s *set) refill(r Refill, sel Selection) map[string]Refilled {
	s.t.Helper()
	all := map[string]Refilled{}
	r.Bus, r.Ledger, r.Store = s.bus, s.ledger, s.store
	from := &RawObjects{Store: s.store, Views: contract.Views(), Selection: sel}
	require.NoError(s.t, r.Run(s.t.Context(), from, sel, func(one Refilled) { all[one.FileID] = one }))
	return all
}

// messages returns what a stream holds.
func (s *set) messages(stream string) []*bus.Stored {
	s.t.Helper()
	var all []*bus.Stored
	for m, err := range s.bus.Scan(s.t.Context(), stream, "", 0) {
		require.NoError(s.t, err)
		all = append(all, m)
	}
	return all
}

// recorded is an archive that holds records by file_id.
type recorded map[string][]byte

func (a recorded) Completed(_ context.Context, fileID string) ([]byte, bool, error) {
	record, found := a[fileID]
	return record, found, nil
}

func TestWhatBecomesOfADocumentOfARefill(t *testing.T) {
	t.Parallel()
	const body = "{}"
	o := original("a", body)
	other := original("a", "[]")
	publish := func(s *set, subject string, m []byte) {
		_, err := s.bus.Publish(s.t.Context(), bus.Message{Subject: subject, Header: bus.Header{contract.HeaderFileID: "a"}, Body: m})
		require.NoError(s.t, err)
	}
	tests := []struct {
		name    string
		prepare func(s *set)
		refill  Refill
		want    Refilled
		err     string
		records int // in the end
	}{
		{name: "nobody knows it: it is sent", want: Refilled{Fate: RefillSent}},
		{name: "it is on its way", prepare: func(s *set) { s.accept("a", body) }, want: Refilled{Fate: RefillKnown}},
		{
			name: "it has a dead letter that the ledger knows", refill: Refill{Dead: true},
			prepare: func(s *set) {
				s.accept("a", body)
				s.finish("a", ledger.Dead, contract.Enrich, contract.ReasonSchema)
			},
			want: Refilled{Fate: RefillKnown},
		},
		{
			name: "other bytes are on their way", prepare: func(s *set) { s.accept("a", "[]") },
			want: Refilled{Fate: RefillFailed}, err: "knows file_id a with other bytes",
		},
		{
			name:    "it has a dead letter in the queue",
			prepare: func(s *set) { s.bury(contract.Enrich, contract.ReasonSchema, "a", body, nil) },
			want:    Refilled{Fate: RefillDead},
		},
		{
			name: "it has a dead letter in the bucket",
			prepare: func(s *set) {
				ref := store.Ref{Bucket: contract.BucketDLQ, Key: "ingest/malformed/2026-01-01/" + o.Name}
				require.Empty(s.t, s.store.Put(s.t.Context(), store.Object{Ref: ref}))
			},
			want: Refilled{Fate: RefillDead},
		},
		{
			name: "it has a result and died behind it",
			prepare: func(s *set) {
				s.result(o)
				s.bury(contract.Archive, contract.ReasonMissingObject, "a", body, nil)
			},
			want: Refilled{Fate: RefillDead},
		},
		{
			name: "it has a result, and a dead letter of an earlier broker from which it was replayed",
			prepare: func(s *set) {
				s.result(o)
				ref := store.Ref{Bucket: contract.BucketDLQ, Key: "enrich/exhausted/2026-01-01/" + o.Name}
				require.Empty(s.t, s.store.Put(s.t.Context(), store.Object{Ref: ref}))
			},
			want: Refilled{Fate: RefillCompleted, Record: true, Ledger: true}, records: 1,
		},
		{
			name: "dead letters are sent where that is asked for", refill: Refill{Dead: true},
			prepare: func(s *set) { s.bury(contract.Enrich, contract.ReasonSchema, "a", body, nil) },
			want:    Refilled{Fate: RefillSent},
		},
		{
			name: "it has a result", prepare: func(s *set) { s.result(o) },
			want: Refilled{Fate: RefillCompleted, Record: true, Ledger: true}, records: 1,
		},
		{
			name: "a dry run says so and changes nothing", prepare: func(s *set) { s.result(o) },
			refill: Refill{DryRun: true}, want: Refilled{Fate: RefillCompleted, Record: true},
		},
		{
			name: "it is in the archive", refill: Refill{Archive: recorded{"a": nil}},
			want: Refilled{Fate: RefillCompleted, Record: true, Ledger: true}, records: 1,
		},
		{
			name: "its record is there and the ledger has forgotten it",
			prepare: func(s *set) {
				s.result(o)
				publish(s, "llm.completed.job_extraction.openai", s.record(other)) // from before, when the ledger had forgotten it too
				publish(s, "llm.completed.job_extraction.openai", s.record(o))
			},
			want: Refilled{Fate: RefillCompleted, Ledger: true}, records: 2,
		},
		{
			name: "the ledger knows how it ended and its record is gone",
			prepare: func(s *set) {
				s.result(o)
				s.accept("a", body)
				s.finish("a", ledger.Completed, contract.Archive, "")
			},
			want: Refilled{Fate: RefillCompleted, Record: true}, records: 1,
		},
		{
			name: "all is there",
			prepare: func(s *set) {
				s.accept("a", body)
				s.finish("a", ledger.Completed, contract.Archive, "")
				publish(s, "llm.completed.job_extraction.openai", s.record(o))
			},
			want: Refilled{Fate: RefillCompleted}, records: 1,
		},
		{
			name: "a record of other bytes", prepare: func(s *set) { publish(s, "llm.completed.job_extraction.openai", s.record(other)) },
			want: Refilled{Fate: RefillFailed}, err: "other bytes", records: 1,
		},
		{
			name: "a result of other bytes", prepare: func(s *set) { s.result(other) },
			want: Refilled{Fate: RefillFailed}, err: "other bytes",
		},
		{
			name: "its bytes are not those that were stored", prepare: func(s *set) { s.keep(o, "[]") },
			want: Refilled{Fate: RefillDamaged}, err: "its bytes have the sha256",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			s.keep(o, body)
			if tt.prepare != nil {
				tt.prepare(s)
			}
			if a, ok := tt.refill.Archive.(recorded); ok {
				tt.refill.Archive = recorded{"a": s.record(o)}
				require.Len(t, a, 1)
			}
			got := s.refill(tt.refill, Selection{})["a"]
			require.Contains(t, got.Error, tt.err)
			require.Equal(t, tt.err == "", got.Error == "", got.Error)
			require.Equal(t, []any{tt.want.Fate, tt.want.Record, tt.want.Ledger}, []any{got.Fate, got.Record, got.Ledger})
			require.Len(t, s.messages(contract.StreamRaw), map[bool]int{true: 1}[got.Fate == RefillSent])
			require.Len(t, s.messages(contract.StreamCompleted), tt.records)

			if got.Fate == RefillSent || got.Fate == RefillCompleted && !tt.refill.DryRun {
				again := s.refill(tt.refill, Selection{})["a"]
				require.Equal(t, map[Fate]Fate{RefillSent: RefillKnown, RefillCompleted: RefillCompleted}[got.Fate], again.Fate)
				require.False(t, again.Record || again.Ledger)
				require.Len(t, s.messages(contract.StreamCompleted), tt.records)
			}
		})
	}
}

func TestWhatARefillSends(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o := original("a", "{}")
	s.keep(o, "{}")
	large := strings.Repeat("x", inbox.MaxMessage+1)
	s.keep(original("b", large), large)
	s.refill(Refill{}, Selection{})
	sent := s.messages(contract.StreamRaw)
	require.Len(t, sent, 2)
	slices.SortFunc(sent, func(a, b *bus.Stored) int {
		return strings.Compare(a.Header[contract.HeaderFileID], b.Header[contract.HeaderFileID])
	})
	require.Equal(t, "llm.raw.job_extraction.openai.high", sent[0].Subject)
	require.Equal(t, "{}", string(sent[0].Body))
	require.Equal(t, bus.Header{
		contract.HeaderFileID: "a", contract.HeaderSHA256: o.SHA256, contract.HeaderName: o.Name,
		contract.HeaderRefillOf: "llm-raw/by_date/2025-01-27/" + o.Name, "Nats-Msg-Id": "a:refill:0:r0:" + o.SHA256[:16],
	}, sent[0].Header)
	require.Equal(t, "llm-raw/_inbox/b", sent[1].Header[contract.HeaderObject])
	inbox, err := s.store.Get(t.Context(), store.Ref{Bucket: contract.BucketRaw, Key: "_inbox/b"})
	require.NoError(t, err)
	require.Equal(t, large, string(inbox.Body))
}

func TestARestoredDocumentIsAsItWas(t *testing.T) {
	t.Parallel()
	s := setup(t)
	fromResult, fromArchive := original("a", "{}"), original("b", "[]")
	s.keep(fromResult, "{}")
	s.keep(fromArchive, "[]")
	s.result(fromResult)
	line := s.record(fromArchive)
	s.refill(Refill{Archive: recorded{"b": line}}, Selection{})
	for _, m := range s.messages(contract.StreamCompleted) {
		id := m.Header[contract.HeaderFileID]
		require.Equal(t, id+":archive:0:r0", m.Header["Nats-Msg-Id"])
		require.Equal(t, "llm.completed.job_extraction.openai", m.Subject)
		require.Equal(t, "high", m.Header[contract.HeaderLane])
		if id == "b" {
			require.Equal(t, contract.RestoredArchive, m.Header[contract.HeaderRestored])
			require.Equal(t, string(line), string(m.Body))
			continue
		}
		require.Equal(t, contract.RestoredObjects, m.Header[contract.HeaderRestored])
		var rec doc.Record
		require.NoError(t, codec.Unmarshal(m.Body, &rec))
		want := metadata(fromResult)
		want.ProcessingStatus = contract.StatusCompleted
		result := doc.ResultRef(created, "a")
		require.Equal(t, doc.Record{
			Metadata: want, Outcome: contract.OutcomeStored, Result: &result, Sources: []doc.SourceReport{}, Timeline: []doc.Step{},
			Objects: append(doc.Views(contract.ClassRaw, contract.Views(), created, "openai", "job_extraction", fromResult.Name), result),
		}, rec)
	}
	for _, o := range []doc.Original{fromResult, fromArchive} {
		d, err := FindDocument(t.Context(), Sources{Bus: s.bus, Ledger: s.ledger}, o.FileID)
		require.NoError(t, err)
		require.Equal(t, []any{Completed, contract.OutcomeStored, o.Name}, []any{d.State, d.Outcome, d.Name})
		opening, _, err := s.ledger.Open(t.Context(), o.FileID, ledger.Entry{SHA256: o.SHA256, Owner: ledger.Owner{Stream: contract.StreamRaw, Seq: 1}})
		require.NoError(t, err)
		require.Equal(t, ledger.Duplicate, opening)
	}
}

// refusing refuses so many publishes. It may be used concurrently.
type refusing struct {
	bus.Bus
	left atomic.Int64
	err  error
}

func (r *refusing) Publish(ctx context.Context, m bus.Message) (bus.Receipt, error) {
	if r.left.Add(-1) >= 0 {
		return bus.Receipt{}, fault.Down(r.err)
	}
	return r.Bus.Publish(ctx, m)
}

func TestARefillWaitsForRoom(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, id := range []string{"a", "b", "c"} {
		s.keep(original(id, id), id)
	}
	full, n := 0, 0
	b := &refusing{Bus: s.bus, err: bus.ErrFull}
	b.left.Store(1)
	r := Refill{Bus: b, Ledger: s.ledger, Store: s.store, Full: func(error) { full++ }}
	require.NoError(t, r.Run(t.Context(), &RawObjects{Store: s.store, Views: contract.Views()}, Selection{}, func(one Refilled) {
		require.Equal(t, RefillSent, one.Fate)
		n++
	}))
	require.Equal(t, []int{3, 1}, []int{n, full})
}

func TestARefillStopsWhenTheBrokerIsGone(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for i := range 3 * refillParallel {
		id := strconv.Itoa(i)
		s.keep(original(id, id), id)
	}
	b := &refusing{Bus: s.bus, err: bus.ErrNoStream}
	b.left.Store(1 << 30)
	r := Refill{Bus: b, Ledger: s.ledger, Store: s.store}
	err := r.Run(t.Context(), &RawObjects{Store: s.store, Views: contract.Views()}, Selection{}, func(one Refilled) {
		t.Error("nothing became of any", one)
	})
	require.ErrorContains(t, err, "is the broker provisioned?")
}
