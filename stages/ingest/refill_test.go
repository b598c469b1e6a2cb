package ingest_test

import (
	"maps"
	"slices"
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
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/topology"
	"github.com/jobspy/millrace/stages/ingest"
)

// lose gives the stage a broker that knows nothing, an hour later, and the store as it was.
func (r *rig) lose() {
	r.t.Helper()
	r.bus = bustest.JetStream(r.t, topology.Options{})
	var err error
	r.ledger, err = ledger.OpenLedger(r.t.Context(), r.bus, time.Hour, time.Now)
	require.NoError(r.t, err)
	r.handler, err = ingest.New(r.t.Context(), ingest.Config{MaxDocumentBytes: 1 << 20, MaxMetadataBytes: 4 << 10, MaxDepth: 64}, stage.Deps{
		Ledger: r.ledger, Bus: r.bus, Store: r.store, Clock: time.Now, Log: zerolog.Nop(),
	})
	require.NoError(r.t, err)
	r.seq, r.at = 0, stored.Add(time.Hour)
}

// rawObjects returns the raw objects of one view, by their keys.
func (r *rig) rawObjects() map[string]*store.Object {
	r.t.Helper()
	all := map[string]*store.Object{}
	for info, err := range r.store.List(r.t.Context(), contract.BucketRaw, string(contract.ByDate)+"/") {
		require.NoError(r.t, err)
		o, err := r.store.Get(r.t.Context(), info.Ref)
		require.NoError(r.t, err)
		all[info.Key] = o
	}
	return all
}

// refillOf returns the message that sends a raw object through the line again.
func (r *rig) refillOf(o *store.Object) *doc.Document {
	r.t.Helper()
	is, err := doc.ReadOriginal(o.Ref, o.Meta)
	require.NoError(r.t, err)
	subject := strings.TrimPrefix(contract.RawSubject(is.Task, is.Provider, is.Lane), contract.RootRaw+".")
	return r.message(subject, string(o.Body), bus.Header{
		contract.HeaderFileID: is.FileID, contract.HeaderSHA256: is.SHA256, contract.HeaderName: is.Name,
		contract.HeaderRefillOf: o.Ref.String(),
	})
}

func TestARefillDecidesNothingAnew(t *testing.T) {
	t.Parallel()
	meta := `"session_id":"s","created_at":"2025-01-27T14:30:52Z"`
	tests := []struct {
		name, subject, body string
		header              bus.Header
	}{
		{"nothing but content: id, date and name came from the broker", "job_extraction.openai", jobs, nil},
		{"an envelope that says it all", "job_extraction.openai", envelope(`"file_id":"f1",`+meta, jobs), nil},
		{"a name that was taken", "job_extraction.openai", envelope(`"file_id":"f2",`+meta, jobs), nil},
		{"a lane in the subject", "job_extraction.openai.high", jobs, bus.Header{contract.HeaderFileID: "lane"}},
		{"a lane by the rules", "intent_analysis.openai", envelope(`"user_tier":"premium"`, `{"intent":{"is_job_related":true}}`), nil},
		{"a subject that wins over the metadata", "job_extraction.openai", envelope(`"llm_provider":"google"`, jobs), nil},
		{"all in the metadata", "unknown", envelope(`"llm_provider":"google","task_type":"job_extraction"`, jobs), nil},
		{
			"all in the file name", "unknown", `{"title":"x"}`,
			bus.Header{contract.HeaderName: "20240127_143052_job_extraction_deepseek_s1.json"},
		},
		{
			"a session in the file name whose name was taken", "unknown", `{"title":"y"}`,
			bus.Header{contract.HeaderName: "20240127_143052_job_extraction_deepseek_s1.json"},
		},
		{"a created_at that is none", "job_extraction.openai", envelope(`"created_at":"yesterday"`, jobs), nil},
		{"a file_id that is none", "job_extraction.openai", envelope(`"file_id":"../x"`, jobs), nil},
		{"a file_id that is a number", "job_extraction.openai", envelope(`"file_id":7`, jobs), nil},
		{"a header that is no file_id", "job_extraction.openai", jobs, bus.Header{contract.HeaderFileID: "a b"}},
		{"two file_ids", "job_extraction.openai", envelope(`"file_id":"a"`, jobs), bus.Header{contract.HeaderFileID: "b"}},
		{"other bytes under a file_id", "job_extraction.openai", envelope(`"file_id":"f1"`, `{"jobs":[]}`), nil},
		{"other bytes under a header", "job_extraction.openai", `{"jobs":[ ]}`, bus.Header{contract.HeaderFileID: "f1"}},
		{"a wrong sum in the header", "job_extraction.openai", jobs, bus.Header{contract.HeaderSHA256: "00"}},
		{"a wrong sum in the metadata", "job_extraction.openai", envelope(`"checksum":"00"`, jobs), nil},
		{"an unknown task in the subject", "poetry.openai", envelope(`"task_type":"job_extraction"`, jobs), nil},
		{"an invalid provider in the subject", "job_extraction.OpenAI", envelope(`"llm_provider":"openai"`, jobs), nil},
		{"no JSON at all", "job_extraction.openai", "\xff", nil},
	}
	r := setup(t)
	type end struct {
		name string
		in   *doc.Document
		out  *doc.Document
		err  error
	}
	ends := map[string]end{} // by key
	for _, tt := range tests {
		in := r.message(tt.subject, tt.body, tt.header)
		in.Origin.Time = in.Origin.Time.Add(time.Duration(r.seq) * time.Second) // a name for each
		out, err := r.handle(in)
		ref := doc.Views(contract.ClassRaw, contract.Views(), in.Metadata.CreatedAt, in.Metadata.Provider, in.Metadata.TaskType, in.Name)[0]
		require.NotContains(t, ends, ref.Key, tt.name)
		ends[ref.Key] = end{tt.name, in, out, err}
	}
	objects := r.rawObjects()
	require.Len(t, objects, len(tests))

	r.lose()
	for key, o := range objects {
		want := ends[key]
		in := r.refillOf(o)
		out, err := r.handle(in)
		require.Equal(t, want.in.Metadata.FileID, in.Metadata.FileID, want.name)
		require.Equal(t, []any{want.in.Name, want.in.Lane}, []any{in.Name, in.Lane}, want.name)
		require.True(t, want.in.Metadata.CreatedAt.Equal(in.Metadata.CreatedAt), want.name)
		require.Equal(t, fault.Of(want.err).Reason, fault.Of(err).Reason, "%s: %v", want.name, err)
		if want.out != nil {
			wantBody, err := want.out.Encode()
			require.NoError(t, err)
			body, err := out.Encode()
			require.NoError(t, err)
			require.Equal(t, string(wantBody), string(body), want.name)
		}
		e, err := r.ledger.Read(t.Context(), in.Metadata.FileID)
		require.NoError(t, err)
		require.Equal(t, want.in.Name, e.Name, want.name)
		again, err := r.handle(r.refillOf(o))
		require.NoError(t, err, want.name)
		require.Nil(t, again, "%s: a second refill is a duplicate", want.name)
	}
	require.Equal(t, objects, r.rawObjects(), "what is stored stays as it is")
}

func TestARefillThatIsNoneIsTreatedAsAnyMessage(t *testing.T) {
	t.Parallel()
	r := setup(t)
	_, err := r.handle(r.message("job_extraction.openai", jobs, bus.Header{contract.HeaderFileID: "f1"}))
	require.NoError(t, err)
	o := slices.Collect(maps.Values(r.rawObjects()))[0]
	put := func(key, id string) string {
		ref := store.Ref{Bucket: contract.BucketRaw, Key: key}
		meta := maps.Clone(o.Meta)
		meta[contract.MetaFileID] = id
		if id == "" {
			meta = nil
		}
		require.Empty(t, r.store.Put(t.Context(), store.Object{Ref: ref, Body: []byte(jobs), Meta: meta}))
		return ref.String()
	}
	tests := []struct{ name, id, named, body string }{
		{"another's object", "f2", o.Ref.String(), jobs},
		{"other bytes", "f1", o.Ref.String(), `{"jobs":[]}`},
		{"no object", "f3", "llm-raw/by_date/2025-01-27/x.json", jobs},
		{"no name of an object", "f4", "../..", jobs},
		{"another bucket", "f5", strings.Replace(o.Ref.String(), "llm-raw", "job-data", 1), jobs},
		{"an object in the inbox", "f6", put(contract.InboxPrefix+"f6", "f6"), jobs},
		{"an object that was moved", "f7", put("by_date/2020-01-01/"+o.Meta[contract.MetaName], "f7"), jobs},
		{"an object without metadata", "f8", put("by_date/2026-03-04/x.json", ""), jobs},
		{"no file_id", "", o.Ref.String(), jobs},
	}
	r.lose()
	for _, tt := range tests {
		h := bus.Header{contract.HeaderRefillOf: tt.named}
		if tt.id != "" {
			h[contract.HeaderFileID] = tt.id
		}
		in := r.message("job_extraction.openai", tt.body, h)
		d, err := r.handle(in)
		require.NoError(t, err, tt.name)
		require.Len(t, d.Metadata.Flags, 1, tt.name)
		require.Contains(t, d.Metadata.Flags[0], "no raw object of its own", tt.name)
		require.Equal(t, in.Origin.Time, d.Metadata.CreatedAt, "%s: the broker's time", tt.name)
	}
}

func TestAPatchedReplayOfARefillKeepsItsName(t *testing.T) {
	t.Parallel()
	r := setup(t)
	first := r.message("job_extraction.openai", envelope(`"checksum":"00"`, jobs), nil)
	_, err := r.handle(first)
	require.Equal(t, contract.ReasonIntegrity, fault.Of(err).Reason)
	objects := r.rawObjects()
	r.lose()
	for _, o := range objects {
		refill := r.refillOf(o)
		_, err = r.handle(refill)
		require.Equal(t, contract.ReasonIntegrity, fault.Of(err).Reason)
		h := r.replayOf(first.Metadata.FileID, 1)
		h[contract.HeaderRefillOf] = o.Ref.String()
		d, err := r.handle(r.message("job_extraction.openai", envelope(``, jobs), h))
		require.NoError(t, err)
		require.Equal(t, first.Name, d.Name)
		require.Equal(t, first.Metadata.CreatedAt, d.Metadata.CreatedAt)
	}
	require.Equal(t, objects, r.rawObjects())
}
