package operate

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/letters"
	"github.com/jobspy/millrace/shared/store"
)

func (s *set) send(subject string, h bus.Header, body string) {
	s.t.Helper()
	_, err := s.bus.Publish(s.t.Context(), bus.Message{Subject: subject, Header: h, Body: []byte(body)})
	require.NoError(s.t, err)
}

// complete publishes a terminal record.
func (s *set) complete(fileID string) {
	s.t.Helper()
	body, err := codec.Marshal(doc.Record{
		Metadata: doc.Metadata{FileID: fileID, TaskType: "job_extraction", Provider: "openai", Checksum: "sha256:abc"},
		Outcome:  contract.OutcomeJobs, Objects: []store.Ref{{Bucket: "llm-raw", Key: "by_date/x"}},
		Result:   &store.Ref{Bucket: "job-data", Key: "processed/x"},
		Timeline: []doc.Step{{Stage: contract.Ingest, MS: 3}},
	})
	require.NoError(s.t, err)
	s.send(contract.CompletedSubject("job_extraction", "openai"), bus.Header{contract.HeaderFileID: fileID}, string(body))
}

func (s *set) sources() Sources {
	return Sources{Bus: s.bus, Ledger: s.ledger, Store: s.objects}
}

func (s *set) find(fileID string) Document {
	s.t.Helper()
	d, err := FindDocument(s.t.Context(), s.sources(), fileID)
	require.NoError(s.t, err)
	return d
}

func TestWhereADocumentIs(t *testing.T) {
	t.Parallel()
	t.Run("unknown", func(t *testing.T) {
		t.Parallel()
		s := setup(t)
		s.accept("other", "{}")
		_, err := FindDocument(t.Context(), s.sources(), "a")
		require.ErrorIs(t, err, ErrUnknown)
	})
	t.Run("pending by its header", func(t *testing.T) {
		t.Parallel()
		s := setup(t)
		s.send("llm.raw.job_extraction.openai", bus.Header{contract.HeaderFileID: "a"}, "{}")
		d := s.find("a")
		require.Equal(t, Pending, d.State)
		require.Equal(t, contract.Ingest, d.Stage)
	})
	t.Run("pending by its metadata", func(t *testing.T) {
		t.Parallel()
		s := setup(t)
		s.send("llm.raw.job_extraction.openai", nil, envelope("a", `"b"`))
		require.Equal(t, Pending, s.find("a").State)
		_, err := FindDocument(t.Context(), s.sources(), "b")
		require.ErrorIs(t, err, ErrUnknown, "an id in the content is not its own")
	})
	t.Run("waiting for a retry of ingest", func(t *testing.T) {
		t.Parallel()
		s := setup(t)
		m := bus.Message{
			Subject: contract.RetrySubject(contract.Ingest, "a", 0), Body: []byte("{}"),
			Header: bus.Header{contract.HeaderFileID: "a", contract.HeaderAttempt: "3"},
		}
		require.NoError(t, s.bus.Schedule(t.Context(), m, time.Now().Add(time.Hour), contract.DueSubject(contract.Ingest, contract.Low)))
		d := s.find("a")
		require.Equal(t, Processing, d.State)
		require.Equal(t, 3, d.Attempt)
	})
	t.Run("processing where the timeline saw it last", func(t *testing.T) {
		t.Parallel()
		s := setup(t)
		s.accept("a", "{}")
		s.send("llm.validate.low.job_extraction.openai", bus.Header{contract.HeaderFileID: "a"}, "{}")
		s.send("llm.enrich.low.job_extraction.openai", bus.Header{
			contract.HeaderFileID: "a", contract.HeaderTimeline: "ingest@1737988252000+3*1,validate@1737988252005+5*1",
		}, "{}")
		s.send("llm.enrich.low.job_extraction.openai", bus.Header{contract.HeaderFileID: "b"}, "{}")
		d := s.find("a")
		require.Equal(t, Processing, d.State)
		require.Equal(t, contract.Enrich, d.Stage)
		require.Len(t, d.Timeline, 2)
		require.Equal(t, "a.json", d.Name)
	})
	t.Run("completed", func(t *testing.T) {
		t.Parallel()
		s := setup(t)
		s.accept("a", "{}")
		s.complete("b")
		s.complete("a")
		s.finish("a", ledger.Completed, contract.Archive, "")
		d := s.find("a")
		require.Equal(t, Completed, d.State)
		require.Equal(t, contract.OutcomeJobs, d.Outcome)
		require.Equal(t, "job-data/processed/x", d.Result.String())
		require.Len(t, d.Objects, 1)
		require.Equal(t, sum("{}"), d.SHA256)
	})
	t.Run("completed, and the record has gone", func(t *testing.T) {
		t.Parallel()
		s := setup(t)
		s.accept("a", "{}")
		s.finish("a", ledger.Completed, contract.Archive, "")
		require.Equal(t, Completed, s.find("a").State)
	})
	t.Run("completed so long ago that the ledger forgot", func(t *testing.T) {
		t.Parallel()
		s := setup(t)
		s.complete("a")
		d := s.find("a")
		require.Equal(t, Completed, d.State)
		require.Equal(t, "job_extraction", d.Task)
		require.Equal(t, "abc", d.SHA256)
	})
	t.Run("failed", func(t *testing.T) {
		t.Parallel()
		s := setup(t)
		s.accept("a", "{}")
		seq := s.bury(contract.Enrich, contract.ReasonExhausted, "a", "{}", nil)
		s.finish("a", ledger.Dead, contract.Enrich, contract.ReasonExhausted)
		d := s.find("a")
		require.Equal(t, Failed, d.State)
		require.Equal(t, contract.Enrich, d.Stage)
		require.Equal(t, contract.ReasonExhausted, d.Reason)
		require.Equal(t, "it did not work", d.Error)
		require.Equal(t, seq, d.DeadLetter)
		require.Equal(t, "llm-dlq/enrich/exhausted/"+doc.Date(time.Now())+"/a.json", d.Objects[0].String())
	})
	t.Run("failed and replayed", func(t *testing.T) {
		t.Parallel()
		s := setup(t)
		s.accept("a", "{}")
		seq := s.bury(contract.Enrich, contract.ReasonExhausted, "a", "{}", nil)
		s.finish("a", ledger.Dead, contract.Enrich, contract.ReasonExhausted)
		q := letters.Queue{Bus: s.bus, Ledger: s.ledger, Store: s.objects}
		_, err := q.Send(t.Context(), seq, letters.Replay{})
		require.NoError(t, err)
		d := s.find("a")
		require.Equal(t, Processing, d.State)
		require.Equal(t, contract.Enrich, d.Stage)
		require.Equal(t, 1, d.Replays)
	})
}

func TestTheOverviewCountsWhatWaits(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.send("llm.raw.job_extraction.openai", nil, "{}")
	s.send("llm.raw.job_extraction.openai.high", nil, "{}")
	s.send("llm.route.batch.job_extraction.openai", nil, "{}")
	s.bury(contract.Enrich, contract.ReasonExhausted, "a", "{}", nil)
	s.complete("b")
	o, err := ReadOverview(t.Context(), s.bus, time.Now().Add(time.Minute))
	require.NoError(t, err)
	require.Len(t, o.Stages, 8)
	require.Equal(t, contract.Ingest, o.Stages[0].Stage)
	require.Equal(t, uint64(2), o.Stages[0].Queued)
	require.GreaterOrEqual(t, o.Stages[0].OldestMS, int64(60_000))
	require.Equal(t, []LaneQueue{{Lane: "high", Pending: 1}, {Lane: "normal", Pending: 1}, {Lane: "low"}, {Lane: "due"}}, o.Stages[0].Lanes)
	require.Equal(t, LaneQueue{Lane: "batch", Pending: 1}, o.Stages[4].Lanes[3])
	require.Equal(t, []uint64{1, 1, 0}, []uint64{o.Completed, o.Failed, o.Retrying})
}
