package letters

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// set is a line without stages, in memory.
type set struct {
	t      *testing.T
	bus    *bus.Memory
	store  *store.Memory
	ledger *ledger.Ledger
}

func setup(t *testing.T) *set {
	t.Helper()
	plan := topology.Plan(topology.Options{})
	b := bus.NewMemory(plan.Streams, plan.Buckets)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	s := &set{t: t, bus: b, store: store.NewMemory(nil)}
	for _, bucket := range contract.Buckets() {
		_, err := s.store.EnsureBucket(t.Context(), bucket)
		require.NoError(t, err)
	}
	var err error
	s.ledger, err = ledger.OpenLedger(t.Context(), b, time.Hour, time.Now)
	require.NoError(t, err)
	return s
}

func (s *set) objects(context.Context) (store.Store, error) { return s.store, nil }

func (s *set) letters() *Queue {
	return &Queue{Bus: s.bus, Ledger: s.ledger, Store: s.objects}
}

// last returns the newest message of a stream.
func (s *set) last(stream string) *bus.Stored {
	s.t.Helper()
	info, err := s.bus.Info(s.t.Context(), stream)
	require.NoError(s.t, err)
	m, err := s.bus.Get(s.t.Context(), stream, info.LastSeq)
	require.NoError(s.t, err)
	return m
}

// accept enters a document into the ledger, as ingest does.
func (s *set) accept(fileID, body string) {
	s.t.Helper()
	_, _, err := s.ledger.Open(s.t.Context(), fileID, ledger.Entry{
		SHA256: doc.Sum([]byte(body)), Name: fileID + ".json", Task: "job_extraction", Provider: "openai",
		CreatedAt: time.Date(2025, 1, 27, 14, 30, 52, 0, time.UTC),
		Owner:     ledger.Owner{Stream: contract.StreamRaw, Seq: 1, Time: time.Now()},
	})
	require.NoError(s.t, err)
}

// finish ends a document in the ledger.
func (s *set) finish(fileID string, kind ledger.Kind, stage contract.Stage, reason contract.Reason) {
	s.t.Helper()
	h := ledger.Holder{WorkID: fileID, Kind: kind}
	_, _, err := s.ledger.Take(s.t.Context(), fileID, h, ledger.Entry{Stage: stage, Reason: reason})
	require.NoError(s.t, err)
	require.NoError(s.t, s.ledger.Finish(s.t.Context(), fileID, h))
}

// bury publishes a dead letter and returns its sequence.
func (s *set) bury(stage contract.Stage, reason contract.Reason, fileID, body string, more bus.Header) uint64 {
	s.t.Helper()
	h := bus.Header{
		contract.HeaderFileID: fileID, contract.HeaderTask: "job_extraction", contract.HeaderProvider: "openai",
		contract.HeaderLane: "normal", contract.HeaderAttempt: "4", contract.HeaderStage: string(stage),
		contract.HeaderName: fileID + ".json", contract.HeaderSHA256: doc.Sum([]byte(body)),
		contract.HeaderReason: string(reason), contract.HeaderError: "it did not work",
		contract.HeaderFailedAt:      time.Now().UTC().Format(time.RFC3339Nano),
		contract.HeaderFailures:      "error,timeout",
		contract.HeaderOriginSubject: contract.StageSubject(stage, contract.Normal, "job_extraction", "openai"),
		contract.HeaderOriginStream:  contract.StageStream(stage), contract.HeaderOriginSeq: "7",
		contract.HeaderTimeline: "ingest@1737988252000+3*1", contract.HeaderTrace: "00-aa-bb-01",
		"Llm-Foreign": "x",
	}
	if stage == contract.Ingest {
		h[contract.HeaderOriginSubject] = contract.RawSubject("job_extraction", "openai", "")
	}
	maps.Copy(h, more)
	r, err := s.bus.Publish(s.t.Context(), bus.Message{Subject: contract.DLQSubject(stage, reason), Header: h, Body: []byte(body)})
	require.NoError(s.t, err)
	return r.Seq
}

func envelope(fileID, content string) string {
	return fmt.Sprintf(`{"metadata":{"file_id":%q,"created_at":"2025-01-27T14:30:52Z","task_type":"job_extraction",`+
		`"llm_provider":"openai","processing_status":"pending","file_size":3,"checksum":"sha256:ab","schema":"job_extraction/1"},"content":%s}`,
		fileID, content)
}
