package enrich_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/stagetest"
	"github.com/jobspy/millrace/stages/enrich"
)

func build(tb testing.TB, settings map[string]string) stage.Handler {
	tb.Helper()
	h, err := enrich.New(tb.Context(), stagetest.Config[enrich.Config](tb, settings), stagetest.Deps())
	require.NoError(tb, err)
	return h
}

func TestGolden(t *testing.T) {
	t.Parallel()
	stagetest.Run(t, build)
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := enrich.New(t.Context(), enrich.Config{}, stagetest.Deps())
	require.ErrorContains(t, err, "MAX_PLACE_BYTES")
}

func TestCancelledWorkIsNoVerdictOnTheDocument(t *testing.T) {
	t.Parallel()
	in, err := stagetest.Input(stagetest.Envelope(t, "job_extraction", codec.Value(`{"jobs":[{"title":"a","location":"x"}]}`)), nil)
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
		region := string(outs[0].Doc.Enrichment.Region)
		if region == "" {
			region = "unknown"
		}
		counts[region]++
	}
	t.Logf("recorded outputs with a title, by region: %v", counts)
}

// FuzzHandle proves that no content crashes the stage, that its verdicts are permanent and
// that it leaves the content alone.
func FuzzHandle(f *testing.F) {
	for _, seed := range []string{
		`{"jobs":[{"location":"Sydney"}]}`, `{"jobs":[{"location":{"address":{"address":{"city":"x"}}}}]}`, `{"jobs":null}`,
		`{"intent":{"location":{"country":"AUS"}}}`, `{"intent":null}`, `[]`, `{"jobs":[{"location":{"country":"\ud83d\ude00"}}]}`,
	} {
		f.Add(seed, "jobs in sydney", true)
		f.Add(seed, "", false)
	}
	h := build(f, nil)
	f.Fuzz(func(t *testing.T, content, query string, intent bool) {
		if codec.Check([]byte(content), codec.DefaultDepth) != nil {
			return
		}
		if _, err := codec.String(query); err != nil {
			return
		}
		task := contract.JobExtraction
		if intent {
			task = contract.IntentAnalysis
		}
		in := &doc.Document{Name: "a.json", Lane: contract.Normal}
		in.Metadata = doc.Metadata{FileID: "doc-1", TaskType: string(task), Provider: "openai", UserQuery: query}
		in.Content = codec.Value(content)

		outs, err := h.Handle(t.Context(), in)
		if err != nil {
			require.Equal(t, fault.Permanent, fault.Of(err).Kind, "%v", err)
			return
		}
		require.Equal(t, content, string(outs[0].Doc.Content))
	})
}
