package doc_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

var created = time.Date(2025, 1, 27, 14, 30, 52, 0, time.UTC)

func TestFileName(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("s", 65)
	tests := []struct {
		name, task, provider, session, id, want string
	}{
		{"the form of the requirements", "intent_analysis", "openai", "abc123", "f1", "20250127_143052_intent_analysis_openai_abc123.json"},
		{"without a session it is the file_id", "job_extraction", "openai", "", "f1", "20250127_143052_job_extraction_openai_f1.json"},
		{"a session of 64 stays", "job_extraction", "x", long[:64], "f1", "20250127_143052_job_extraction_x_" + long[:64] + ".json"},
		{
			"a longer one is cut and told apart by its sum", "job_extraction", "x", long, "f1",
			"20250127_143052_job_extraction_x_" + long[:55] + "-" + doc.Sum([]byte(long))[:8] + ".json",
		},
		{"other characters become underscores", "job_extraction", "x", "../a b*é", "f1", "20250127_143052_job_extraction_x_.._a_b__.json"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, doc.FileName(created, tt.task, tt.provider, tt.session, tt.id))
		})
	}
}

func TestSecondNameDiffersByDocument(t *testing.T) {
	t.Parallel()
	name := "20250127_143052_intent_analysis_openai_abc123.json"
	want := "20250127_143052_intent_analysis_openai_abc123_" + doc.Sum([]byte("f2"))[:8] + ".json"
	require.Equal(t, want, doc.SecondName(name, "f2"))
}

func TestParseFileName(t *testing.T) {
	t.Parallel()
	task, provider, session, ok := doc.ParseFileName("20250127_143052_intent_analysis_openai_abc_123.json")
	require.True(t, ok)
	require.Equal(t, []string{"intent_analysis", "openai", "abc_123"}, []string{task, provider, session})
	_, _, _, ok = doc.ParseFileName("notes.json")
	require.False(t, ok)
}

func TestNewIDFollowsFromTheMessageAlone(t *testing.T) {
	t.Parallel()
	o := doc.Origin{Stream: "LLM_RAW", Seq: 7, Time: created}
	id := doc.NewID(o, "aa")
	require.Equal(t, id, doc.NewID(o, "aa"))
	require.True(t, doc.ValidID(id))
	require.Equal(t, byte('8'), id[14], "a UUID of version 8")
	o.Seq++
	require.NotEqual(t, id, doc.NewID(o, "aa"))
}

func TestViewsOfEachClass(t *testing.T) {
	t.Parallel()
	refs := doc.Views(contract.ClassEnriched, contract.Views(), created, "openai", "intent_analysis", "n.json")
	var got []string
	for _, r := range refs {
		got = append(got, r.String())
	}
	require.Equal(t, []string{
		"llm-processed/enriched/by_date/2025-01-27/n.json",
		"llm-processed/enriched/by_provider/openai/n.json",
		"llm-processed/enriched/by_task_type/intent_analysis/n.json",
	}, got)
	raw := doc.Views(contract.ClassRaw, []contract.View{contract.ByDate}, created, "openai", "intent_analysis", "n.json")
	require.Equal(t, "llm-raw/by_date/2025-01-27/n.json", raw[0].String())
}

func TestEnvelopeKeepsWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	in := `{"metadata":{"file_id":"f1","created_at":"2025-01-27T14:30:52Z","task_type":"t","llm_provider":"p",` +
		`"processing_status":"pending","file_size":1,"checksum":"","schema":"t/1","later":{"a":[1]}},` +
		`"content":{"n":12345678901234567890.10},"newer":true}`
	e, err := doc.Decode([]byte(in))
	require.NoError(t, err)
	out, err := e.Encode()
	require.NoError(t, err)
	require.JSONEq(t, in, string(out))
	require.Contains(t, string(out), "12345678901234567890.10", "numbers keep their digits")
	again, err := e.Encode()
	require.NoError(t, err)
	require.Equal(t, out, again)
}

func TestDecodeRefusesDuplicateNames(t *testing.T) {
	t.Parallel()
	_, err := doc.Decode([]byte(`{"metadata":{"file_id":"a","file_id":"b"}}`))
	require.ErrorContains(t, err, "file_id")
}

func TestHeadersRoundTrip(t *testing.T) {
	t.Parallel()
	d := &doc.Document{
		Lane: contract.High, Name: "n.json", Source: "greenhouse", Attempt: 2, Replay: 1, ReplayOf: "9",
		Failures: []string{"error"}, Trace: "00-0123-01",
		Timeline: []doc.Step{{Stage: contract.Ingest, At: created, MS: 4, Attempt: 1}},
	}
	d.Metadata.FileID, d.Metadata.TaskType, d.Metadata.Provider = "f1", "intent_analysis", "openai"
	h := d.Headers(contract.Route)
	require.Equal(t, "route", h[contract.HeaderStage])
	require.Equal(t, "1", h[contract.HeaderReplayCount])

	d.Origin = doc.Origin{Subject: "llm.scrape.high.x.greenhouse", Stream: "LLM_SCRAPE", Seq: 3, Time: created.Add(time.Nanosecond)}
	d.OriginHeader(h)
	got := doc.FromMessage(&bus.Stored{Stream: contract.StreamRetry, Seq: 99, Subject: "llm.due.scrape.high", Header: h, Body: []byte("x")})
	require.Equal(t, d.Origin, got.Origin)
	require.Equal(t, d.Timeline, got.Timeline)
	require.Equal(t, d.Failures, got.Failures)
	require.Equal(t, "f1~greenhouse", got.WorkID())
	require.Equal(t, []any{2, 1, "9", contract.High}, []any{got.Attempt, got.Replay, got.ReplayOf, got.Lane})

	elsewhere := doc.FromMessage(&bus.Stored{Stream: contract.StreamRaw, Seq: 5, Subject: "llm.raw.t.p", Time: created, Header: h})
	require.Equal(t, uint64(5), elsewhere.Origin.Seq, "an origin is believed on the retry stream alone")
}

func TestHeadersThatAreNonsenseCountAsAbsent(t *testing.T) {
	t.Parallel()
	got := doc.FromMessage(&bus.Stored{Header: bus.Header{
		contract.HeaderAttempt: "-4", contract.HeaderReplayCount: "many", contract.HeaderTimeline: "a,b@c,@1+2*x,ingest@1+2*3",
	}})
	require.Equal(t, 1, got.Attempt)
	require.Equal(t, 0, got.Replay)
	require.Len(t, got.Timeline, 1)
}

func TestALayoutTravelsInOneForm(t *testing.T) {
	t.Parallel()
	l := doc.NewLayout([]contract.View{contract.ByTask, contract.ByDate}, []contract.Class{contract.ClassStandardized, contract.ClassRaw})
	require.Equal(t, "by_date,by_task_type;raw,standardized", l.String(), "the order in which they were named is of no consequence")
	require.True(t, l.Keeps(contract.ClassRaw))
	require.False(t, l.Keeps(contract.ClassValidated))
	back, err := doc.ParseLayout(l.String())
	require.NoError(t, err)
	require.Equal(t, l, back)
	require.True(t, doc.NewLayout(contract.Views(), nil).Keeps(contract.ClassRaw), "raw is always kept")

	none, err := doc.ParseLayout("")
	require.NoError(t, err)
	require.True(t, none.IsZero())
	require.Equal(t, contract.Views(), none.Views())
	require.True(t, none.Keeps(contract.ClassEnriched), "a document without a layout is kept as a whole")

	for _, bad := range []string{
		"by_date", ";raw", "by_date;", "by_date;validated", "by_moon;raw", "by_date;raw,boiled", "by_date,by_date;raw",
		"by_provider,by_date;raw", "by_date;raw,enriched,validated", "by_date; raw", "by_date;raw;", "by_date;raw,",
	} {
		_, err := doc.ParseLayout(bad)
		require.ErrorContains(t, err, "is no layout", bad)
	}
}

func TestALayoutGoesWithItsDocument(t *testing.T) {
	t.Parallel()
	d := &doc.Document{Name: "n.json", Layout: doc.NewLayout([]contract.View{contract.ByProvider}, []contract.Class{contract.ClassEnriched})}
	d.Metadata.Provider = "openai"
	h := d.Next().Headers(contract.Ingest)
	require.Equal(t, "by_provider;raw,enriched", h[contract.HeaderLayout])
	require.Contains(t, contract.Headers(), contract.HeaderLayout, "retries and dead letters keep it")
	back := doc.FromMessage(&bus.Stored{Header: h})
	require.Equal(t, d.Layout, back.Layout)
	require.Equal(t, []store.Ref{{Bucket: contract.BucketProcessed, Key: "enriched/by_provider/openai/n.json"}}, d.Refs(contract.ClassEnriched))
	require.Empty(t, d.Views(contract.ClassValidated, []byte("{}")))
}
