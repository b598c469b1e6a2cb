package ingest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// keys returns what lies in the raw bucket below a prefix.
func (r *rig) keys(prefix string) []string {
	r.t.Helper()
	var keys []string
	for info, err := range r.store.List(r.t.Context(), contract.BucketRaw, prefix) {
		require.NoError(r.t, err)
		keys = append(keys, info.Key)
	}
	return keys
}

// again is a message as the broker delivers it once more.
func again(in *doc.Document) *doc.Document {
	return doc.FromMessage(&bus.Stored{
		Stream: in.Origin.Stream, Seq: in.Origin.Seq, Time: in.Origin.Time, Subject: in.Origin.Subject, Header: in.Header, Body: in.Body,
	})
}

func TestTheLayoutIsDecidedOnce(t *testing.T) {
	t.Parallel()
	r := setup(t)
	body := envelope(`"file_id":"f1","created_at":"2025-01-27T14:30:52Z","session_id":"s"`, jobs)
	r.policy.Views, r.policy.Classes = []contract.View{contract.ByDate, contract.ByTask}, []contract.Class{contract.ClassRaw, contract.ClassStandardized}
	in := r.message("job_extraction.openai", body, nil)
	// The process dies after it has published and before all is stored.
	outs, err := r.handler.Handle(t.Context(), in)
	require.NoError(t, err)
	want := "by_date,by_task_type;raw,standardized"
	require.Equal(t, want, outs[0].Doc.Headers(contract.Ingest)[contract.HeaderLayout])

	r.policy.Views, r.policy.Classes = []contract.View{contract.ByProvider}, contract.Classes()
	out, err := r.handle(again(in))
	require.NoError(t, err)
	require.Equal(t, want, out.Layout.String(), "the same message has the same layout, whatever the policy says by now")
	require.Equal(t, []string{
		"by_date/2025-01-27/20250127_143052_job_extraction_openai_s.json",
		"by_task_type/job_extraction/20250127_143052_job_extraction_openai_s.json",
	}, r.keys(""))

	out, err = r.handle(r.message("job_extraction.openai", body, r.replayOf("f1", 1)))
	require.NoError(t, err)
	require.Equal(t, want, out.Layout.String(), "so has a replay")
	out, err = r.handle(r.message("job_extraction.openai", envelope(`"file_id":"f2"`, jobs), nil))
	require.NoError(t, err)
	require.Equal(t, "by_provider;raw,validated,enriched,standardized", out.Layout.String(), "a new document has the new one")
}

func TestAReplayThatTheLedgerForgotKeepsTheLayoutOfItsLetter(t *testing.T) {
	t.Parallel()
	r := setup(t)
	h := r.replayOf("f1", 1)
	h[contract.HeaderLayout] = "by_task_type;raw"
	out, err := r.handle(r.message("job_extraction.openai", envelope(`"file_id":"f1"`, jobs), h))
	require.NoError(t, err)
	require.Equal(t, "by_task_type;raw", out.Layout.String())

	h[contract.HeaderReplayOf] = "99" // of nothing: anybody may write headers
	h[contract.HeaderFileID] = "f2"
	out, err = r.handle(r.message("job_extraction.openai", envelope(`"file_id":"f2"`, jobs), h))
	require.NoError(t, err)
	require.Equal(t, r.policy.Layout(), out.Layout)
}

// The name does not say where the provider ends and the session begins.
const (
	azure     = `"file_id":"a","created_at":"2025-01-27T14:30:52Z","session_id":"eu_s"`
	azureEU   = `"file_id":"b","created_at":"2025-01-27T14:30:52Z","session_id":"s"`
	ambiguous = "20250127_143052_job_extraction_azure_eu_s.json"
)

func TestANameIsGivenOnceInEveryLayout(t *testing.T) {
	t.Parallel()
	date, provider, task := contract.ByDate, contract.ByProvider, contract.ByTask
	tests := []struct {
		name          string
		first, second []contract.View
	}{
		{"by date", []contract.View{date}, []contract.View{date}},
		{"by provider and task", []contract.View{provider, task}, []contract.View{provider, task}},
		{"by task alone", []contract.View{task}, []contract.View{task}},
		{"by_date is dropped in between", []contract.View{date, task}, []contract.View{provider, task}},
		{"by_date is kept again in between", []contract.View{provider, task}, []contract.View{date, task}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			r.policy.Views = tt.first
			a, err := r.handle(r.message("job_extraction.azure", envelope(azure, jobs), nil))
			require.NoError(t, err)
			require.Equal(t, ambiguous, a.Name)
			before := r.bodiesBelow("by_")

			r.policy.Views = tt.second
			in := r.message("job_extraction.azure_eu", envelope(azureEU, `{"jobs":[{"title":"Baker"}]}`), nil)
			for range 2 {
				b, err := r.handle(again(in))
				require.NoError(t, err)
				require.Equal(t, doc.SecondName(ambiguous, "b"), b.Name)
			}
			after := r.bodiesBelow("by_")
			require.Len(t, after, len(tt.first)+len(tt.second))
			for key, body := range before {
				require.Equal(t, body, after[key], "the first document stays as it was")
			}
			out, err := r.handle(r.message("job_extraction.azure", envelope(azure, jobs), r.replayOf("a", 1)))
			require.NoError(t, err)
			require.Equal(t, ambiguous, out.Name, "and so does its name")
		})
	}
}

func TestAMarkOfAnotherProcessIsSeenWithinAMinute(t *testing.T) {
	t.Parallel()
	r := setup(t)
	_, err := r.handle(r.message("job_extraction.openai", envelope(`"file_id":"first"`, jobs), nil))
	require.NoError(t, err, "this process has seen that there are no marks")
	mark := store.Ref{Bucket: contract.BucketRaw, Key: contract.NamePrefix + "2025-01-27/" + ambiguous}
	require.Nil(t, r.store.Put(t.Context(), store.Object{Ref: mark, Meta: map[string]string{contract.MetaFileID: "other"}}))
	r.now = r.now.Add(time.Minute)
	out, err := r.handle(r.message("job_extraction.azure", envelope(azure, jobs), nil))
	require.NoError(t, err)
	require.Equal(t, doc.SecondName(ambiguous, "a"), out.Name)
	require.NotContains(t, fmt.Sprint(r.keys("by_date/")), ambiguous)
}

// bodiesBelow returns the raw objects below a prefix by their keys.
func (r *rig) bodiesBelow(prefix string) map[string]string {
	r.t.Helper()
	bodies := map[string]string{}
	for _, key := range r.keys(prefix) {
		o, err := r.store.Get(r.t.Context(), store.Ref{Bucket: contract.BucketRaw, Key: key})
		require.NoError(r.t, err)
		bodies[key] = string(o.Body)
	}
	return bodies
}
