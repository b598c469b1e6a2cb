package ingest_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/topology"
	"github.com/jobspy/millrace/stages/ingest"
)

// until waits until n messages lie in a stream.
func until(t *testing.T, b bus.Bus, stream string, n uint64) {
	t.Helper()
	require.Eventually(t, func() bool {
		info, err := b.Info(t.Context(), stream)
		return err == nil && info.Messages == n
	}, 20*time.Second, 5*time.Millisecond, "%d messages in %s", n, stream)
}

// running is a running ingest stage, and a connection that sends what our own refuses.
func running(t *testing.T) (*bus.JetStream, *nats.Conn) {
	t.Helper()
	srv := bustest.Server(t)
	b := bustest.Connect(t, srv)
	bustest.Provision(t, b, topology.Options{})
	nc, err := nats.Connect(srv.ClientURL())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	s := store.NewMemory(time.Now)
	for _, bucket := range contract.Buckets() {
		_, err := s.EnsureBucket(t.Context(), bucket)
		require.NoError(t, err)
	}
	l, err := ledger.OpenLedger(t.Context(), b, time.Hour, time.Now)
	require.NoError(t, err)
	deps := stage.Deps{Ledger: l, Bus: b, Store: s, Clock: time.Now, Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)}
	h, err := ingest.New(t.Context(), ingest.Config{MaxDocumentBytes: 1 << 20, MaxMetadataBytes: 64 << 10, MaxDepth: 64}, deps)
	require.NoError(t, err)
	r := stage.NewRunner(stage.Settings{
		Stage: contract.Ingest, Handler: h, Deps: deps, Metrics: stage.NewMetrics(prometheus.NewRegistry(), contract.Ingest),
		Config: stage.Config{
			MaxConcurrentTasks: 4, Prefetch: 8, HandleTimeout: time.Second, DrainTimeout: 0, Attempts: 4, RetryFirst: time.Millisecond,
			ClaimCheckBytes: 256 << 10, Heartbeat: time.Second, Views: contract.Views(), LedgerTTL: time.Hour,
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = r.Run(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
	return b, nc
}

func TestAHostileMessageHoldsUpNobody(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, subject, body string
		header              nats.Header
		valid               bool // goes on to validate
	}{
		{"a file name that is no key, and a body that is not there", "job_extraction.openai", jobs, nats.Header{"Llm-Name": {"../x"}, "Llm-Object": {"llm-raw/nope"}}, false},
		{"a header that is not UTF-8, and no body", "job_extraction.openai", "", nats.Header{"traceparent": {"\xff"}}, false},
		{"a file_id that is not UTF-8", "job_extraction.openai", jobs, nats.Header{"Llm-File-Id": {"\xff"}}, false},
		{"a session in the file name that is not UTF-8", "job_extraction.openai", jobs, nats.Header{"Llm-Name": {"20250127_143052_job_extraction_openai_\xff.json"}}, true},
		{"headers as large as the broker takes", "job_extraction.openai", "", nats.Header{"traceparent": {strings.Repeat("x", 65000)}}, false},
		{"a very long schema and an unknown task", "nonsense.openai", envelope(`"schema":"`+strings.Repeat("x", 65200)+`"`, jobs), nil, false},
		{"a very long replay-of", "job_extraction.openai", jobs, nats.Header{"Llm-Replay-Of": {strings.Repeat("1", 65300)}}, true},
		{"a subject that is not UTF-8", "\xff.openai", jobs, nil, false},
	}
	b, nc := running(t)
	var valid, dead uint64
	for i, tt := range tests {
		require.NoError(t, nc.PublishMsg(&nats.Msg{Subject: contract.RootRaw + "." + tt.subject, Header: tt.header, Data: []byte(tt.body)}), tt.name)
		good := envelope(fmt.Sprintf(`"file_id":"good-%d"`, i), jobs)
		require.NoError(t, nc.PublishMsg(&nats.Msg{Subject: "llm.raw.job_extraction.openai", Data: []byte(good)}))
		valid++
		if tt.valid {
			valid++
		} else {
			dead++
		}
		t.Log(tt.name)
		until(t, b, "LLM_VALIDATE", valid)
		until(t, b, contract.StreamDLQ, dead)
		until(t, b, contract.StreamRaw, 0)
	}
}

func TestAMessageThatFailsBeforeTheLedgerKeepsItsOwnEnd(t *testing.T) {
	t.Parallel()
	b, nc := running(t)
	send := func(body string, h nats.Header) {
		t.Helper()
		require.NoError(t, nc.PublishMsg(&nats.Msg{Subject: "llm.raw.job_extraction.openai", Header: h, Data: []byte(body)}))
		require.NoError(t, nc.Flush())
		until(t, b, contract.StreamRaw, 0)
	}
	// Two different documents that are too large, under one id.
	send(strings.Repeat("a", 2<<20), nats.Header{"Llm-File-Id": {"X"}})
	until(t, b, contract.StreamDLQ, 1)
	send(strings.Repeat("b", 2<<20), nats.Header{"Llm-File-Id": {"X"}})
	until(t, b, contract.StreamDLQ, 2)
	// One that is under way, and another one that would take its end.
	send(envelope(`"file_id":"Y"`, jobs), nil)
	until(t, b, "LLM_VALIDATE", 1)
	send("", nats.Header{"Llm-File-Id": {"Y"}, "Llm-Object": {"llm-raw/_inbox/none"}})
	until(t, b, contract.StreamDLQ, 3)
	l, err := ledger.OpenLedger(t.Context(), b, time.Hour, time.Now)
	require.NoError(t, err)
	y, err := l.Read(t.Context(), "Y")
	require.NoError(t, err)
	require.Equal(t, ledger.Open, y.State, "Y is on its way in validate")
}

func TestAPatchedReplayThatIsDeliveredTwiceKeepsTheFirstBytes(t *testing.T) {
	t.Parallel()
	r := setup(t)
	meta := `"file_id":"p1","created_at":"2025-01-27T14:30:52Z","session_id":"s"`
	first := r.message("job_extraction.openai", envelope(meta, jobs), nil)
	_, err := r.handle(first)
	require.NoError(t, err)
	patched := r.message("job_extraction.openai", envelope(meta, `{"jobs":[{"title":"patched"}]}`), r.replayOf("p1", 1))
	a, err := r.handle(patched)
	require.NoError(t, err)
	again := doc.FromMessage(&bus.Stored{
		Stream: patched.Origin.Stream, Seq: patched.Origin.Seq, Time: patched.Origin.Time, Subject: patched.Origin.Subject,
		Header: patched.Header, Body: patched.Body,
	})
	b, err := r.handle(again)
	require.NoError(t, err)
	require.Equal(t, a.Metadata.Checksum, b.Metadata.Checksum)
	for _, body := range r.rawBodies(again) {
		require.Equal(t, string(first.Body), body)
	}
}

func TestAReplayStoresTheViewsThatAreMissing(t *testing.T) {
	t.Parallel()
	r := setup(t)
	body := envelope(`"file_id":"p2","created_at":"2025-01-27T14:30:52Z"`, jobs)
	// The process dies when the name is reserved, before the other views are stored.
	_, err := r.handler.Handle(t.Context(), r.message("job_extraction.openai", body, nil))
	require.NoError(t, err)
	replay := r.message("job_extraction.openai", body, r.replayOf("p2", 1))
	_, err = r.handle(replay)
	require.NoError(t, err)
	require.Len(t, r.rawBodies(replay), 3)
}
