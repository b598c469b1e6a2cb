package standardize

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/stagetest"
)

func build(tb testing.TB, settings map[string]string) stage.Handler {
	tb.Helper()
	h, err := New(tb.Context(), stagetest.Config[Config](tb, settings), stagetest.Deps())
	require.NoError(tb, err)
	return h
}

func TestGolden(t *testing.T) {
	t.Parallel()
	stagetest.Run(t, build)
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := New(t.Context(), Config{}, stagetest.Deps())
	require.ErrorContains(t, err, "MAX_SKILLS")
}

// A member that is kept beside a property of the same name would make the document unreadable.
func TestPropertiesAreThoseOfTheType(t *testing.T) {
	t.Parallel()
	want := map[string]bool{}
	for f := range reflect.TypeFor[doc.JobPosting]().Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			want[name] = true
		}
	}
	require.Equal(t, want, properties)
}

func TestEmployment(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text, kind string
		exact      bool
	}{
		{"Full-time", fullTime, true},
		{"FULL_TIME", fullTime, true},
		{"fulltime", fullTime, true},
		{"Full Time, Permanent", fullTime, true},
		{"part time", partTime, true},
		{"Contractor", contractor, true},
		{"Internship", intern, true},
		{"per diem", perDiem, true},
		{"volunteer", volunteer, true},
		{"Temp", temporary, true},
		{"Other", other, true},
		{"Full-time (38 hours)", fullTime, false},
		{"6 month contract", contractor, false},
		{"International", other, false},
		{"permanent", other, false},
		{"on the other hand", other, false},
		{"N/A", "", false},
		{"  ", "", false},
		{"12", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			t.Parallel()
			kind, exact := employment(tt.text)
			require.Equal(t, tt.kind, kind)
			require.Equal(t, tt.exact, exact)
		})
	}
}

func TestPosted(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, moment string }{
		{"2025-01-24", "2025-01-24T00:00:00Z"},
		{"2025-01-24T09:15:00+11:00", "2025-01-23T22:15:00Z"},
		{"2025-01-24T09:15:00.250Z", "2025-01-24T09:15:00.25Z"},
		{"2025-01-24T09:15Z", "2025-01-24T09:15:00Z"},
		{"2025-01-24 09:15:00 +00:00", "2025-01-24T09:15:00Z"},
		{"2025-01-24T09:15:00+1100", "2025-01-23T22:15:00Z"},
		{"2025-01-24T09:15:00", ""},
		{"01/02/2025", ""},
		{"24 January 2025", ""},
		{"3 days ago", ""},
		{"2025-02-30", ""},
		{"0001-01-01", ""},
		{"9999-12-31T23:59:59-01:00", ""},
		{"1737988405", ""},
		{strings.Repeat("2", 100), ""},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			t.Parallel()
			moment, asText := posted(tt.text)
			require.Equal(t, tt.moment, moment)
			require.Equal(t, tt.moment == "", asText == tt.text)
		})
	}
}

func TestCancelledWorkIsNoVerdictOnTheDocument(t *testing.T) {
	t.Parallel()
	in, err := stagetest.Input(stagetest.Envelope(t, "job_extraction", codec.Value(`{"jobs":[{"title":"a"}]}`)), nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	_, err = build(t, nil).Handle(ctx, in)

	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, fault.Transient, fault.Of(err).Kind)
}

func TestRecordedOutputs(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	counts := map[string]int{}
	for _, s := range stagetest.Jobs(t) {
		if !s.HasTitle {
			continue
		}
		content := codec.Value(`{"jobs":[` + string(s.Content) + `]}`)
		in, err := stagetest.Input(stagetest.Envelope(t, "job_extraction", content), nil)
		require.NoError(t, err)
		outs, err := h.Handle(t.Context(), in)
		require.NoError(t, err, s.ID)
		j := outs[0].Doc.Standard.Jobs[0]
		require.NotEmpty(t, j.Title, s.ID)
		for name, has := range map[string]bool{
			"company": j.HiringOrganization != nil, "location": j.JobLocation != nil, "remote": j.JobLocationType != "",
			"pay": j.BaseSalaryText != "", "employment": j.EmploymentType != "", "posted": j.DatePosted != "",
			"posted as text": j.DatePostedText != "", "skills": len(j.Skills) > 0, "rest": j.Extra != nil,
		} {
			if has {
				counts[name]++
			}
		}
		counts["jobs"]++
	}
	t.Logf("recorded outputs with a title, what they give: %v", counts)
}

// FuzzJob proves that no job crashes the stage, and that what comes out can be read again and
// says the same.
func FuzzJob(f *testing.F) {
	for _, seed := range []string{
		`{"title":"a","salary":{"range":1},"location":{"address":{"city":"x"}},"remote":"Full"}`, `{"quality":1,"@type":2}`,
		`{"title":"a","posted_at":"2025-01-24T09:15:00+11:00","skills":["a",{"name":"b"},3]}`, `{}`, `{"employmentType":"x"}`,
		`{"title":1e400,"salary":1e400,"identifier":-0}`, `{"skills":"a,b;c","job_type":"Full-time"}`, `{"":null,"~":1}`,
	} {
		f.Add(seed)
	}
	h := build(f, nil)
	f.Fuzz(func(t *testing.T, job string) {
		if codec.Check([]byte(job), codec.DefaultDepth) != nil {
			return
		}
		in := &doc.Document{Name: "a.json", Lane: contract.Normal}
		in.Metadata = doc.Metadata{FileID: "doc-1", TaskType: string(contract.JobExtraction), Provider: "openai"}
		in.Content = codec.Value(`{"jobs":[` + job + `,` + job + `]}`)

		outs, err := h.Handle(t.Context(), in)
		if err != nil {
			require.Equal(t, fault.Permanent, fault.Of(err).Kind, "%v", err)
			return
		}
		body, err := outs[0].Doc.Encode()
		require.NoError(t, err)
		again, err := doc.Decode(body)
		require.NoError(t, err)
		second, err := again.Encode()
		require.NoError(t, err)
		require.Equal(t, string(body), string(second))
		jobs := again.Standard.Jobs
		require.Len(t, jobs, 2)
		require.NotEqual(t, jobs[0].JobID, jobs[1].JobID)
	})
}

// FuzzPosted proves that a time that is understood is one, in UTC.
func FuzzPosted(f *testing.F) {
	for _, seed := range []string{"2025-01-24", "2025-01-24T09:15:00+11:00", "2025-01-24 09:15:00Z", "1990-01-01T00:00:00+23:59", "yesterday", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		moment, asText := posted(text)
		if moment == "" {
			require.Equal(t, text, asText)
			return
		}
		require.Empty(t, asText)
		at, err := time.Parse(time.RFC3339Nano, moment)
		require.NoError(t, err)
		require.Equal(t, time.UTC, at.Location())
	})
}
