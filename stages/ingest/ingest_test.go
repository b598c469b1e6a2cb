package ingest_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/topology"
	"github.com/jobspy/millrace/stages/ingest"
)

var stored = time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)

// rig is an ingest stage with a real ledger.
type rig struct {
	t       *testing.T
	handler stage.Handler
	bus     bus.Bus
	store   store.Store
	ledger  *ledger.Ledger
	seq     uint64
	at      time.Time      // when the broker stores the messages
	policy  policy.Storage // as it is now
	now     time.Time      // by the stage's clock
}

func setup(t *testing.T) *rig {
	t.Helper()
	b := bustest.JetStream(t, topology.Options{})
	s := store.NewMemory(time.Now)
	for _, bucket := range contract.Buckets() {
		_, err := s.EnsureBucket(t.Context(), bucket)
		require.NoError(t, err)
	}
	l, err := ledger.OpenLedger(t.Context(), b, time.Hour, time.Now)
	require.NoError(t, err)
	r := &rig{t: t, bus: b, store: s, ledger: l, policy: policy.Seed(nil), at: stored, now: stored}
	r.handler, err = ingest.New(t.Context(), ingest.Config{MaxDocumentBytes: 1 << 20, MaxMetadataBytes: 4 << 10, MaxDepth: 64}, stage.Deps{
		Ledger: l, Bus: b, Store: s, Clock: func() time.Time { return r.now }, Log: zerolog.Nop(),
		Policy: func() policy.Storage { return r.policy }, ReplayMax: 5,
	})
	require.NoError(t, err)
	return r
}

// message returns the next raw message on a subject below llm.raw.
func (r *rig) message(subject, body string, h bus.Header) *doc.Document {
	r.seq++
	return doc.FromMessage(&bus.Stored{
		Stream: contract.StreamRaw, Seq: r.seq, Time: r.at, Subject: contract.RootRaw + "." + subject, Header: h, Body: []byte(body),
	})
}

func (r *rig) handle(in *doc.Document) (*doc.Document, error) {
	r.t.Helper()
	outs, err := r.handler.Handle(r.t.Context(), in)
	for _, e := range r.store.Put(r.t.Context(), in.Objects...) {
		if !errors.Is(e, store.ErrExists) { // as the runner does
			require.NoError(r.t, e)
		}
	}
	if len(outs) == 0 {
		return nil, err
	}
	require.Len(r.t, outs, 1)
	require.Equal(r.t, contract.Validate, outs[0].To)
	return outs[0].Doc, err
}

// replayOf puts a dead letter of a document into its queue and returns the headers of a replay.
func (r *rig) replayOf(fileID string, n int) bus.Header {
	r.t.Helper()
	receipt, err := r.bus.Publish(r.t.Context(), bus.Message{
		Subject: "llm.dlq.ingest.exhausted", Header: bus.Header{contract.HeaderFileID: fileID}, Body: []byte("{}"),
	})
	require.NoError(r.t, err)
	return bus.Header{
		contract.HeaderFileID: fileID, contract.HeaderReplayCount: strconv.Itoa(n),
		contract.HeaderReplayOf: strconv.FormatUint(receipt.Seq, 10),
	}
}

// rawBodies returns what each view holds of a document.
func (r *rig) rawBodies(in *doc.Document) []string {
	r.t.Helper()
	var bodies []string
	m := in.Metadata
	for _, ref := range doc.Views(contract.ClassRaw, contract.Views(), m.CreatedAt, m.Provider, m.TaskType, in.Name) {
		o, err := r.store.Get(r.t.Context(), ref)
		require.NoError(r.t, err, ref)
		require.Equal(r.t, m.FileID, o.Meta[contract.MetaFileID])
		bodies = append(bodies, string(o.Body))
	}
	return bodies
}

const jobs = `{"jobs":[{"title":"Go developer"}]}`

func envelope(metadata, content string) string {
	return fmt.Sprintf(`{"metadata":{%s},"content":%s}`, metadata, content)
}

func TestWhatIsAccepted(t *testing.T) {
	t.Parallel()
	quoted := `"` + strings.ReplaceAll(jobs, `"`, `\"`) + `"`
	tests := []struct {
		name, subject, body string
		header              bus.Header
		want                string // content
		check               func(t *testing.T, d *doc.Document)
	}{
		{
			"an envelope", "job_extraction.openai",
			envelope(`"file_id":"f1","created_at":"2025-01-27T14:30:52Z","session_id":"abc123","later":1`, jobs), nil, jobs,
			func(t *testing.T, d *doc.Document) {
				t.Helper()
				require.Equal(t, "f1", d.Metadata.FileID)
				require.Equal(t, "20250127_143052_job_extraction_openai_abc123.json", d.Name)
				require.JSONEq(t, `{"later":1}`, string(d.Metadata.Extra))
				require.Equal(t, contract.Normal, d.Lane)
				require.Equal(t, "job_extraction/1", d.Metadata.Schema)
				require.Equal(t, "free", d.Metadata.UserTier)
			},
		},
		{
			"a premium intent goes first", "intent_analysis.openai",
			envelope(`"user_tier":"premium"`, `{"intent":{"is_job_related":true}}`), nil, `{"intent":{"is_job_related":true}}`,
			func(t *testing.T, d *doc.Document) { t.Helper(); require.Equal(t, contract.High, d.Lane) },
		},
		{
			"any other intent goes last", "intent_analysis.openai", envelope(`"priority":"high"`, `{}`), nil, `{}`,
			func(t *testing.T, d *doc.Document) { t.Helper(); require.Equal(t, contract.Low, d.Lane) },
		},
		{
			"a lane in the subject wins", "quality_validation.openai.high", envelope(``, `{}`), nil, `{}`,
			func(t *testing.T, d *doc.Document) { t.Helper(); require.Equal(t, contract.High, d.Lane) },
		},
		{
			"the subject wins over the metadata", "job_extraction.openai", envelope(`"llm_provider":"google"`, jobs), nil, jobs,
			func(t *testing.T, d *doc.Document) {
				t.Helper()
				require.Equal(t, "openai", d.Metadata.Provider)
				require.Len(t, d.Metadata.Flags, 1)
			},
		},
		{
			"the provider stands in the metadata", "job_extraction", envelope(`"llm_provider":"google"`, jobs), nil, jobs,
			func(t *testing.T, d *doc.Document) { t.Helper(); require.Equal(t, "google", d.Metadata.Provider) },
		},
		{
			"task and provider stand in the file name", "unknown", jobs,
			bus.Header{contract.HeaderName: "20250127_143052_job_extraction_deepseek_s1.json"},
			jobs,
			func(t *testing.T, d *doc.Document) {
				t.Helper()
				require.Equal(t, []string{"job_extraction", "deepseek", "s1"}, []string{d.Metadata.TaskType, d.Metadata.Provider, d.Metadata.SessionID})
			},
		},
		{
			"a bare document", "job_extraction.openai", `{"title":"x","metadata":[]}`, nil, `{"title":"x","metadata":[]}`,
			func(t *testing.T, d *doc.Document) {
				t.Helper()
				require.Equal(t, stored, d.Metadata.CreatedAt, "the broker's time")
				require.True(t, doc.ValidID(d.Metadata.FileID))
			},
		},
		{"text that may hold JSON", "job_extraction.openai", "Here: {\"title\":\"x\"}", nil, `"Here: {\"title\":\"x\"}"`, nil},
		{
			"a chat completion", "job_extraction.openai",
			`{"object":"chat.completion","model":"gpt-4","choices":[{"finish_reason":"stop","message":{"content":` + quoted + `}}]}`, nil, quoted,
			func(t *testing.T, d *doc.Document) {
				t.Helper()
				require.Equal(t, []string{"gpt-4", "stop"}, []string{d.Metadata.ModelName, d.Metadata.StopReason})
			},
		},
		{
			"a tool call of a chat completion", "job_extraction.openai",
			`{"choices":[{"message":{"content":null,"tool_calls":[{"function":{"arguments":` + quoted + `}}]}}]}`, nil, quoted, nil,
		},
		{
			"several outputs become a list", "job_extraction.openai",
			`{"choices":[{"message":{"tool_calls":[{"function":{"arguments":"{\"title\":\"a\"}"}},{"function":{"arguments":"{\"title\":\"b\"}"}}]}}]}`,
			nil, `[{"title":"a"},{"title":"b"}]`, nil,
		},
		{
			"an Anthropic message", "job_extraction.anthropic",
			`{"type":"message","model":"claude","stop_reason":"end_turn","content":[{"type":"thinking","thinking":"x"},{"type":"text","text":` + quoted + `}]}`,
			nil, quoted, nil,
		},
		{
			"an Anthropic tool use", "job_extraction.anthropic",
			`{"type":"message","content":[{"type":"text","text":"I call it"},{"type":"tool_use","input":` + jobs + `}]}`, nil, jobs, nil,
		},
		{
			"a response inside an envelope", "job_extraction.openai",
			envelope(`"session_id":"s"`, `{"choices":[{"message":{"content":`+quoted+`}}]}`), nil, quoted, nil,
		},
		{
			"sums and sizes that are right", "job_extraction.openai",
			envelope(`"checksum":"sha256:`+strings.ToUpper(doc.Sum([]byte(jobs)))+`","file_size":35`, jobs), nil, jobs,
			func(t *testing.T, d *doc.Document) {
				t.Helper()
				require.NotEqual(t, int64(35), d.Metadata.FileSize, "the stored size is that of the whole body")
			},
		},
	}
	r := setup(t)
	for _, tt := range tests {
		in := r.message(tt.subject, tt.body, tt.header)
		d, err := r.handle(in)
		require.NoError(t, err, tt.name)
		require.Equal(t, tt.want, string(d.Content), tt.name)
		require.Equal(t, "sha256:"+doc.Sum([]byte(tt.body)), d.Metadata.Checksum, tt.name)
		require.Equal(t, []string{tt.body, tt.body, tt.body}, r.rawBodies(d), tt.name)
		if tt.check != nil {
			t.Run(tt.name, func(t *testing.T) { tt.check(t, d) })
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, subject, body string
		header              bus.Header
		reason              contract.Reason
		text                string
	}{
		{"an empty body", "job_extraction.openai", "", nil, contract.ReasonMalformed, "empty"},
		{"blanks", "job_extraction.openai", " \n", nil, contract.ReasonMalformed, "empty"},
		{"binary", "job_extraction.openai", "{\x00}", nil, contract.ReasonMalformed, "byte 1 is NUL"},
		{"invalid UTF-8", "job_extraction.openai", "{\"a\":\"\xff\"}", nil, contract.ReasonMalformed, "not UTF-8: byte 6"},
		{"very deep", "job_extraction.openai", strings.Repeat("[", 1<<20), nil, contract.ReasonMalformed, "nested too deeply"},
		{"an unknown task", "poetry.openai", "{}", nil, contract.ReasonUnroutable, `"poetry"`},
		{"no provider anywhere", "job_extraction", "{}", nil, contract.ReasonMalformed, "no provider"},
		{"an invalid provider", "job_extraction.OpenAI", "{}", nil, contract.ReasonMalformed, `"OpenAI"`},
		{"a file_id that climbs", "job_extraction.openai", envelope(`"file_id":"../x"`, "{}"), nil, contract.ReasonMalformed, `"../x"`},
		{"a file_id that is a wildcard", "job_extraction.openai", envelope(`"file_id":"*"`, "{}"), nil, contract.ReasonMalformed, `"*"`},
		{"a file_id that is a number", "job_extraction.openai", envelope(`"file_id":7`, "{}"), nil, contract.ReasonMalformed, "is 7"},
		{"two file_ids", "job_extraction.openai", envelope(`"file_id":"a"`, "{}"), bus.Header{contract.HeaderFileID: "b"}, contract.ReasonMalformed, `"b"`},
		{"a wrong checksum", "job_extraction.openai", envelope(`"checksum":"00"`, "{}"), nil, contract.ReasonIntegrity, "checksum"},
		{"a wrong size", "job_extraction.openai", envelope(`"file_size":9`, "{}"), nil, contract.ReasonIntegrity, "2 bytes"},
		{"a wrong sum of the body", "job_extraction.openai", "{}", bus.Header{contract.HeaderSHA256: "00"}, contract.ReasonIntegrity, "Llm-Sha256"},
		{"an envelope without content", "job_extraction.openai", `{"metadata":{"file_id":"g1"}}`, nil, contract.ReasonMalformed, "no content"},
		{"large metadata", "job_extraction.openai", envelope(`"x":"`+strings.Repeat("x", 5<<10)+`"`, "{}"), nil, contract.ReasonMalformed, "MAX_METADATA_BYTES"},
		{"a refusal", "job_extraction.openai", `{"choices":[{"message":{"refusal":"no"}}]}`, nil, contract.ReasonRejected, "refused"},
		{"no output", "job_extraction.openai", `{"choices":[{"message":{"content":" "}}]}`, nil, contract.ReasonRejected, "no output"},
		{"an error of a provider", "job_extraction.openai", `{"error":{"type":"overloaded","message":"later"}}`, nil, contract.ReasonRejected, "overloaded later"},
		{"too large", "job_extraction.openai", `"` + strings.Repeat("x", 1<<20) + `"`, nil, contract.ReasonOversize, "MAX_DOCUMENT_BYTES is 1048576"},
	}
	r := setup(t)
	for _, tt := range tests {
		in := r.message(tt.subject, tt.body, tt.header)
		d, err := r.handle(in)
		require.Nil(t, d, tt.name)
		verdict := fault.Of(err)
		require.Equal(t, fault.Permanent, verdict.Kind, "%s: %v", tt.name, err)
		require.Equal(t, tt.reason, verdict.Reason, "%s: %v", tt.name, err)
		require.ErrorContains(t, err, tt.text, tt.name)
		if tt.reason == contract.ReasonOversize {
			continue
		}
		require.True(t, doc.ValidID(in.Metadata.FileID), tt.name)
		require.Equal(t, []string{tt.body, tt.body, tt.body}, r.rawBodies(in), "%s: the raw bytes are kept whatever is wrong", tt.name)
	}
}

func TestDuplicatesConflictsAndReplays(t *testing.T) {
	t.Parallel()
	r := setup(t)
	body := envelope(`"file_id":"f1","session_id":"s"`, jobs)
	first := r.message("job_extraction.openai", body, nil)
	d, err := r.handle(first)
	require.NoError(t, err)

	again, err := r.handle(first)
	require.NoError(t, err)
	require.Equal(t, d.Name, again.Name, "a redelivery gives the same document")

	same, err := r.handle(r.message("job_extraction.openai", body, nil))
	require.NoError(t, err)
	require.Nil(t, same, "the same bytes in another message are a duplicate")

	other := r.message("job_extraction.openai", envelope(`"file_id":"f1","session_id":"s"`, `{"jobs":[]}`), nil)
	_, err = r.handle(other)
	require.Equal(t, contract.ReasonConflict, fault.Of(err).Reason)
	require.NotEqual(t, "f1", other.Metadata.FileID)
	require.Equal(t, "f1", other.Metadata.ProducerFileID)
	require.Len(t, r.rawBodies(other), 3)
	require.Equal(t, body, r.rawBodies(d)[0], "the first one is never touched")

	replay, err := r.handle(r.message("job_extraction.openai", envelope(`"file_id":"other"`, jobs), r.replayOf("f1", 1)))
	require.NoError(t, err)
	require.Equal(t, "f1", replay.Metadata.FileID, "on a replay the header wins")
	require.Equal(t, "sha256:"+doc.Sum([]byte(body)), replay.Metadata.Checksum, "a replay keeps the first checksum")
	require.Equal(t, body, r.rawBodies(d)[0])
}

func TestAReplayThatIsOneTooManyIsRejected(t *testing.T) {
	t.Parallel()
	r := setup(t)
	_, err := r.handle(r.message("job_extraction.openai", envelope(`"file_id":"f1"`, jobs), nil))
	require.NoError(t, err)
	_, err = r.handle(r.message("job_extraction.openai", envelope(`"file_id":"f1"`, jobs), r.replayOf("f1", 5)))
	require.NoError(t, err)
	in := r.message("job_extraction.openai", envelope(`"file_id":"f1"`, jobs), r.replayOf("f1", 6))
	_, err = r.handle(in)
	require.Equal(t, contract.ReasonRejected, fault.Of(err).Reason)
	require.ErrorContains(t, err, "too many replays: this is number 6, REPLAY_MAX is 5")
	require.Equal(t, "f1", in.Metadata.FileID)
}

func TestAReplayThatIsNoneIsTreatedAsAnyMessage(t *testing.T) {
	t.Parallel()
	r := setup(t)
	_, err := r.handle(r.message("job_extraction.openai", envelope(`"file_id":"f1"`, jobs), nil))
	require.NoError(t, err)
	foreign := r.replayOf("f2", 1)
	for name, h := range map[string]bus.Header{
		"of nothing":                  {contract.HeaderReplayCount: "1"},
		"of what does not exist":      {contract.HeaderReplayCount: "1", contract.HeaderReplayOf: "99"},
		"of another's letter":         {contract.HeaderReplayCount: "1", contract.HeaderReplayOf: foreign[contract.HeaderReplayOf]},
		"often enough to be believed": {contract.HeaderReplayCount: "1000000", contract.HeaderReplayOf: "x"},
	} {
		_, err = r.handle(r.message("job_extraction.openai", envelope(`"file_id":"f1"`, `{"jobs":[]}`), h))
		require.Equal(t, contract.ReasonConflict, fault.Of(err).Reason, name)
	}
	e, err := r.ledger.Read(t.Context(), "f1")
	require.NoError(t, err)
	require.Zero(t, e.Replay)
}

func TestASecondDocumentWithTheSameNameGetsItsOwn(t *testing.T) {
	t.Parallel()
	r := setup(t)
	meta := `"file_id":"%s","session_id":"s","created_at":"2025-01-27T14:30:52Z"`
	a, err := r.handle(r.message("job_extraction.openai", envelope(fmt.Sprintf(meta, "a"), jobs), nil))
	require.NoError(t, err)
	second := r.message("job_extraction.openai", envelope(fmt.Sprintf(meta, "b"), jobs), nil)
	b, err := r.handle(second)
	require.NoError(t, err)
	require.Equal(t, "20250127_143052_job_extraction_openai_s.json", a.Name)
	require.Equal(t, "20250127_143052_job_extraction_openai_s_"+doc.Sum([]byte("b"))[:8]+".json", b.Name)
	e, err := r.ledger.Read(t.Context(), "b")
	require.NoError(t, err)
	require.Equal(t, b.Name, e.Name)
	again, err := r.handle(second)
	require.NoError(t, err)
	require.Equal(t, b.Name, again.Name)
}

func TestABodyFromTheInbox(t *testing.T) {
	t.Parallel()
	r := setup(t)
	ref := store.Ref{Bucket: contract.BucketRaw, Key: contract.InboxPrefix + "f1"}
	require.NoError(t, errors.Join(r.store.Put(t.Context(), store.Object{Ref: ref, Body: []byte(jobs)})...))
	d, err := r.handle(r.message("job_extraction.openai", `{}`, bus.Header{contract.HeaderFileID: "f1", contract.HeaderObject: ref.String()}))
	require.NoError(t, err)
	require.JSONEq(t, jobs, string(d.Content))
	require.Empty(t, d.Object)

	for object, reason := range map[string]contract.Reason{
		"llm-raw/_inbox/gone":   contract.ReasonMissingObject,
		"llm-raw/by_date/x":     contract.ReasonMalformed,
		"job-data/_inbox/f1":    contract.ReasonMalformed,
		"llm-raw/by_date/../..": contract.ReasonMalformed,
	} {
		_, err := r.handle(r.message("job_extraction.openai", `{}`, bus.Header{contract.HeaderObject: object}))
		require.Equal(t, reason, fault.Of(err).Reason, object)
	}
}

func FuzzIngest(f *testing.F) {
	for _, s := range []string{"{}", jobs, envelope(`"file_id":"a"`, jobs), `{"choices":[{"message":{"content":"x"}}]}`, `{"type":"message","content":[{}]}`, "\xff", ""} {
		f.Add([]byte(s))
	}
	h := ingest.NewReader(ingest.Config{MaxDocumentBytes: 1 << 20, MaxMetadataBytes: 4 << 10, MaxDepth: 64})
	f.Fuzz(func(t *testing.T, body []byte) {
		content, err := h(body)
		if err == nil && len(content) == 0 {
			t.Fatal("neither content nor an error")
		}
	})
}
