package up_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/deploy/millrace/up"
	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/topology"
)

const (
	waitFor = 2 * time.Minute
	poll    = 10 * time.Millisecond
)

// board is a source with two jobs, so that no test leaves the machine.
const board = `{"jobs":[
 {"id":1,"title":"Python Developer","absolute_url":"https://jobs.example/1","location":{"name":"Sydney, Australia"},"company_name":"Acme","content":"&lt;p&gt;Python&lt;/p&gt;","first_published":"2026-01-02T03:04:05Z","updated_at":"2026-01-02T03:04:05Z"},
 {"id":2,"title":"Pastry Chef","absolute_url":"https://jobs.example/2","location":{"name":"Paris"},"company_name":"Acme","content":"","updated_at":"2026-01-02T03:04:05Z"}],"meta":{"total":2}}`

// line is the one running line of these tests: the embedded store allows only one in a
// process.
var line *up.Instance

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/jobs") {
			_, _ = io.WriteString(w, board) // the test sees what is missing
			return
		}
		http.NotFound(w, r)
	}))
	defer source.Close()
	dir, err := os.MkdirTemp("", "millrace-up-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }() // a folder of the system's temporary ones
	if err := restarted(filepath.Join(dir, "before")); err != nil {
		fmt.Fprintln(os.Stderr, "restart:", err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	started := make(chan *up.Instance, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- up.Run(ctx, up.Config{
			Dir: dir, NATSAddr: "127.0.0.1:0", S3Addr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0",
			Logs: io.Discard, Level: zerolog.InfoLevel, Console: zerolog.WarnLevel,
			Vars: map[string]string{
				"SOURCE_GREENHOUSE_URL": source.URL, "SOURCE_GREENHOUSE_BOARDS": "acme", "SCRAPE_ALLOW_NETS": "127.0.0.0/8", "JOIN_DEADLINE": "8s",
			},
		}, func(_ context.Context, i *up.Instance) error { started <- i; return nil })
	}()
	select {
	case line = <-started:
	case err := <-ended:
		fmt.Fprintln(os.Stderr, "the line did not start:", err)
		cancel()
		return 1
	}
	code := m.Run()
	began := time.Now()
	cancel()
	if err := <-ended; err != nil {
		fmt.Fprintln(os.Stderr, "the line did not stop:", err)
		return 1
	}
	if took := time.Since(began); took > 5*time.Second {
		fmt.Fprintln(os.Stderr, "the line took too long to stop:", took)
		return 1
	}
	return code
}

// publish publishes a raw document and returns its file_id.
func publish(t *testing.T, subject, id, body string, h bus.Header) string {
	t.Helper()
	header := bus.Header{}
	maps.Copy(header, h)
	if id != "" {
		header[contract.HeaderFileID] = id
	}
	_, err := line.Bus.Publish(t.Context(), bus.Message{Subject: contract.RootRaw + "." + subject, Header: header, Body: []byte(body)})
	require.NoError(t, err)
	return id
}

// entry waits until a document has ended and returns its ledger entry.
func entry(t *testing.T, id string) ledger.Entry {
	t.Helper()
	l, err := ledger.OpenLedger(t.Context(), line.Bus, time.Hour, time.Now)
	require.NoError(t, err)
	var e ledger.Entry
	require.Eventually(t, func() bool {
		e, err = l.Read(t.Context(), id)
		if !errors.Is(err, bus.ErrNotFound) {
			require.NoError(t, err)
		}
		return e.State == ledger.Done
	}, waitFor, poll, "%s ends", id)
	return e
}

// client is an S3 client over the network, as anybody would use it.
func client(t *testing.T) *store.S3 {
	t.Helper()
	keys, err := up.ReadCredentials(line.Dir)
	require.NoError(t, err)
	s, err := store.OpenS3(t.Context(), store.S3Settings{
		Endpoint: line.S3Addr, AccessKey: keys["S3_ACCESS_KEY"], SecretKey: keys["S3_SECRET_KEY"],
	})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func TestEverySampleEndsWhereItsTableSays(t *testing.T) {
	t.Parallel()
	var last []up.Sample
	var mu sync.Mutex
	require.NoError(t, up.Feed(t.Context(), line, func(all []up.Sample) {
		mu.Lock()
		defer mu.Unlock()
		last = all
	}))
	require.NotEmpty(t, last)
	for _, s := range last {
		if strings.Contains(s.File, "yza567") {
			require.Equal(t, []any{ledger.Dead, contract.ReasonSchema}, []any{s.End, s.Reason}, s.File)
			continue
		}
		require.Equal(t, ledger.Completed, s.End, "%s: %s", s.File, s.Reason)
	}
}

func TestADocumentLiesInAllItsPlaces(t *testing.T) {
	t.Parallel()
	body := `{"metadata":{"created_at":"2025-01-27T14:30:52Z","session_id":"places1"},"content":{"jobs":[{"title":"Go developer"}]}}`
	id := publish(t, "job_extraction.openai", "places-1", body, nil)
	entry(t, id)
	s3 := client(t)
	name := "20250127_143052_job_extraction_openai_places1.json"
	for _, class := range []string{"llm-raw/", "llm-processed/validated/", "llm-processed/enriched/", "llm-processed/standardized/"} {
		for _, dir := range []string{"by_date/2025-01-27/", "by_provider/openai/", "by_task_type/job_extraction/"} {
			bucket, prefix, _ := strings.Cut(class, "/")
			o, err := s3.Get(t.Context(), store.Ref{Bucket: bucket, Key: prefix + dir + name})
			require.NoError(t, err)
			if bucket == contract.BucketRaw {
				require.Equal(t, body, string(o.Body))
				require.Equal(t, id, o.Meta[contract.MetaFileID])
			}
			onDisk, err := os.ReadFile(filepath.Join(line.Dir, "buckets", bucket, prefix+dir+name))
			require.NoError(t, err)
			require.Equal(t, o.Body, onDisk)
		}
	}
	_, err := s3.Get(t.Context(), store.Ref{Bucket: contract.BucketJobs, Key: "processed/2025-01-27/" + id + ".json"})
	require.NoError(t, err)
}

func TestASearchFindsJobs(t *testing.T) {
	t.Parallel()
	id := publish(t, "intent_analysis.openai", "search-1",
		`{"metadata":{"user_tier":"premium"},"content":{"intent":{"is_job_related":true,"job_title":"python developer","location":"sydney"}}}`, nil)
	e := entry(t, id)
	require.Equal(t, ledger.Completed, e.Holder.Kind)
	o, err := client(t).Get(t.Context(), doc.ResultRef(e.CreatedAt, id))
	require.NoError(t, err)
	require.Contains(t, string(o.Body), "Python Developer")
	require.NotContains(t, string(o.Body), "Pastry Chef")
	answer, err := line.Bus.Last(t.Context(), contract.StreamResult, contract.ResultSubject(id))
	require.NoError(t, err)
	require.JSONEq(t, string(o.Body), string(answer.Body))
}

func TestFiveMegabytesComplete(t *testing.T) {
	t.Parallel()
	id := publish(t, "job_extraction.openai", "large-1", `{"jobs":[{"title":"x","description":"`+strings.Repeat("y", 5<<20)+`"}]}`, nil)
	require.Equal(t, ledger.Completed, entry(t, id).Holder.Kind)
}

func TestBadInputEndsAsADeadLetterAndStopsNobody(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, subject, body string
		header              bus.Header
		want                string // subject of the dead letter
	}{
		{"an empty body", "job_extraction.openai", "", nil, "llm.dlq.ingest.malformed"},
		{"binary", "job_extraction.openai", "\x00\x01\x02", nil, "llm.dlq.ingest.malformed"},
		{"1 MiB of brackets", "job_extraction.openai", strings.Repeat("[", 1<<20), nil, "llm.dlq.ingest.malformed"},
		{"invalid UTF-8", "job_extraction.openai", "{\"a\":\"\xff\"}", nil, "llm.dlq.ingest.malformed"},
		{"an unknown task", "poetry.openai", "{}", nil, "llm.dlq.ingest.unroutable"},
		{"an invalid provider", "job_extraction.OpenAI", "{}", nil, "llm.dlq.ingest.malformed"},
		{"no provider anywhere", "job_extraction", "{}", nil, "llm.dlq.ingest.malformed"},
		{"a file_id that climbs", "job_extraction.openai", `{"metadata":{"file_id":"../x"},"content":{}}`, nil, "llm.dlq.ingest.malformed"},
		{"a file_id that is a wildcard", "job_extraction.openai", `{"metadata":{"file_id":"*"},"content":{}}`, nil, "llm.dlq.ingest.malformed"},
		{"a wrong checksum", "job_extraction.openai", `{"metadata":{"checksum":"sha256:00"},"content":{}}`, nil, "llm.dlq.ingest.integrity"},
		{"text that is no JSON", "job_extraction.openai", "the answer is 42", nil, "llm.dlq.validate.rejected"},
		{"text around JSON", "job_extraction.openai", "the answer is {\"jobs\":[]}", nil, "llm.dlq.validate.malformed"},
		{"what its schema refuses", "job_extraction.openai", `{"jobs":[{"title":7}]}`, nil, "llm.dlq.validate.schema"},
	}
	// Dead letters of these tests are known by their traces: bad ones have no id of ours.
	for i, tt := range tests {
		trace := fmt.Sprintf("00-%032x-%016x-01", i+1, i+1)
		h := bus.Header{contract.HeaderTrace: trace}
		publish(t, tt.subject, "", tt.body, h)
		letter := deadLetter(t, func(m *bus.Stored) bool { return strings.HasPrefix(m.Header[contract.HeaderTrace], trace[:36]) })
		require.Equal(t, tt.want, letter.Subject, tt.name)
		require.NotEmpty(t, letter.Header[contract.HeaderError], tt.name)
		if !strings.Contains(tt.want, "validate") {
			require.Equal(t, tt.body, string(letter.Body), tt.name)
		}
	}
	id := publish(t, "job_extraction.openai", "after-bad", `{"jobs":[{"title":"x"}]}`, nil)
	require.Equal(t, ledger.Completed, entry(t, id).Holder.Kind)
}

// deadLetter waits for a dead letter.
func deadLetter(t *testing.T, is func(*bus.Stored) bool) *bus.Stored {
	t.Helper()
	var found *bus.Stored
	require.Eventually(t, func() bool {
		for m, err := range line.Bus.Scan(t.Context(), contract.StreamDLQ, "", 0) {
			require.NoError(t, err)
			if is(m) {
				found = m
				return true
			}
		}
		return false
	}, waitFor, poll, "a dead letter comes")
	return found
}

func TestAnEmptyBodyWithAStatusHeaderHoldsUpNobody(t *testing.T) {
	t.Parallel()
	// Our own publish refuses such headers, so this one goes out as another client sends it.
	m := nats.NewMsg("llm.raw.job_extraction.openai")
	m.Header.Set("Status", "100")
	m.Header.Set(contract.HeaderFileID, "status-poison")
	require.NoError(t, line.Bus.Conn().PublishMsg(m))
	for i := range 20 {
		publish(t, "job_extraction.openai", fmt.Sprintf("status-%d", i), `{"jobs":[{"title":"x"}]}`, nil)
	}
	for i := range 20 {
		require.Equal(t, ledger.Completed, entry(t, fmt.Sprintf("status-%d", i)).Holder.Kind)
	}
	letter := deadLetter(t, func(m *bus.Stored) bool { return m.Header[contract.HeaderFileID] == "status-poison" })
	require.Equal(t, "llm.dlq.ingest.malformed", letter.Subject)
}

func TestTheSameIdWithOtherBytesIsAConflict(t *testing.T) {
	t.Parallel()
	id := publish(t, "job_extraction.openai", "conflict-1", `{"jobs":[{"title":"a"}]}`, nil)
	require.Equal(t, ledger.Completed, entry(t, id).Holder.Kind)
	answers := make(chan string, 8)
	stop, err := line.Bus.Listen(contract.ResultSubject(id), func(_ string, _ bus.Header, body []byte) { answers <- string(body) })
	require.NoError(t, err)
	defer stop()
	publish(t, "job_extraction.openai", id, `{"jobs":[{"title":"a"}]}`, nil) // a duplicate: answered, but no second record
	select {
	case answer := <-answers:
		require.Contains(t, answer, `"title":"a"`)
	case <-time.After(waitFor):
		t.Fatal("a duplicate is not answered")
	}
	publish(t, "job_extraction.openai", id, `{"jobs":[{"title":"b"}]}`, nil)
	letter := deadLetter(t, func(m *bus.Stored) bool { return m.Header[contract.HeaderProducerFileID] == id })
	require.Equal(t, "llm.dlq.ingest.conflict", letter.Subject)
	require.NotEqual(t, id, letter.Header[contract.HeaderFileID])
	records := 0
	for m, err := range line.Bus.Scan(t.Context(), contract.StreamCompleted, "", 0) {
		require.NoError(t, err)
		if m.Header[contract.HeaderFileID] == id {
			records++
		}
	}
	require.Equal(t, 1, records)
}

func TestASubjectOutsideTheStreamIsRefusedAtPublish(t *testing.T) {
	t.Parallel()
	_, err := line.Bus.Publish(t.Context(), bus.Message{Subject: "llm.raw.a.b.c.d", Body: []byte("{}")})
	require.ErrorIs(t, err, bus.ErrNoStream)
	_, err = line.Bus.Publish(t.Context(), bus.Message{Subject: "llm.raw.job_extraction.openai.urgent", Body: []byte("{}")})
	require.ErrorIs(t, err, bus.ErrNoStream)
}

// What the disk has room for may differ; the rest is the plan by which doctor and provision go.
func TestTheLineIsProvisionedByThePlanOfTheOperatorsCommands(t *testing.T) {
	t.Parallel()
	changes, err := topology.Apply(t.Context(), line.Bus.JetStream(), topology.Plan(topology.Options{}), true)
	require.NoError(t, err)
	for _, c := range changes {
		if c.Action != topology.Unchanged && (c.Action != topology.Updated || c.Name == contract.StreamResult) {
			t.Errorf("%s %s is %s: %v", c.Kind, c.Name, c.Action, c.Fields)
		}
	}
}
