package line_test

import (
	"context"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/schemas"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/stagetest"
	"github.com/jobspy/millrace/stages/enrich"
	"github.com/jobspy/millrace/stages/route"
	"github.com/jobspy/millrace/stages/standardize"
	"github.com/jobspy/millrace/stages/validate"
)

// pure returns the handlers from validate to route, which need nothing but the document.
func pure(t *testing.T) []stage.Handler {
	t.Helper()
	return []stage.Handler{
		handler(t, validate.New), handler(t, enrich.New), handler(t, standardize.New), handler(t, route.New),
	}
}

func handler[C any](t *testing.T, build func(context.Context, C, stage.Deps) (stage.Handler, error)) stage.Handler {
	t.Helper()
	h, err := build(t.Context(), stagetest.Config[C](t, nil), stagetest.Deps())
	require.NoError(t, err)
	return h
}

// walk sends a body through the handlers as the runner would: what one gives is encoded and
// decoded again for the next.
func walk(t *testing.T, handlers []stage.Handler, body []byte) ([]stage.Output, error) {
	t.Helper()
	var outs []stage.Output
	for _, h := range handlers {
		in, err := stagetest.Input(body, nil)
		require.NoError(t, err)
		if outs, err = h.Handle(t.Context(), in); err != nil {
			return nil, err
		}
		require.NotEmpty(t, outs)
		body, err = outs[0].Doc.Encode()
		require.NoError(t, err)
	}
	return outs, nil
}

// Every recorded output that is a job comes through to aggregate; the others end at the schema.
func TestRecordedOutputsComeThrough(t *testing.T) {
	t.Parallel()
	handlers := pure(t)
	counts := map[string]int{}
	for _, s := range stagetest.Jobs(t) {
		outs, err := walk(t, handlers, stagetest.Envelope(t, string(contract.JobExtraction), s.Content))
		if err != nil {
			v := fault.Of(err)
			require.Equal(t, fault.Permanent, v.Kind, s.ID)
			require.False(t, s.HasTitle, "%s has a title: %v", s.ID, err)
			counts[string(v.Reason)]++
			continue
		}
		require.Equal(t, contract.Aggregate, outs[0].To, s.ID)
		require.NotEmpty(t, outs[0].Doc.Standard.Jobs[0].JobID, s.ID)
		counts[string(outs[0].Doc.Metadata.ProcessingStatus)]++
	}
	t.Logf("recorded outputs by verdict: %v", counts)
}

// The samples that are envelopes go where schemas/examples/README.md says.
func TestSamplesGoTheirWays(t *testing.T) {
	t.Parallel()
	handlers := pure(t)
	tests := map[string]struct {
		to       contract.Stage
		strategy string
		reason   contract.Reason
	}{
		"20250127_143052_intent_analysis_openai_abc123.json":       {to: contract.Scrape, strategy: "seek_focused_strategy"},
		"20250127_143118_intent_analysis_anthropic_def456.json":    {to: contract.Scrape, strategy: "indeed_ziprecruiter_strategy"},
		"20250127_143140_intent_analysis_google_ghi789.json":       {to: contract.Aggregate, strategy: "none"},
		"20250127_143205_job_extraction_deepseek_jkl012.json":      {to: contract.Aggregate, strategy: "none"},
		"20250127_143231_data_enrichment_openai_mno345.json":       {to: contract.Aggregate, strategy: "none"},
		"20250127_143302_quality_validation_anthropic_pqr678.json": {to: contract.Aggregate, strategy: "none"},
		"20250127_143411_job_extraction_google_yza567.json":        {reason: contract.ReasonSchema},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body, err := fs.ReadFile(schemas.Examples(), name)
			require.NoError(t, err)
			outs, err := walk(t, handlers, body)
			if tt.reason != "" {
				require.Equal(t, tt.reason, fault.Of(err).Reason)
				return
			}
			require.NoError(t, err)
			last := outs[len(outs)-1]
			require.Equal(t, tt.to, last.To)
			require.Equal(t, tt.strategy, last.Doc.Routing.Strategy)
		})
	}
}

// The samples that are responses of providers hold what their file names say.
func TestSampleResponsesHoldValidContent(t *testing.T) {
	t.Parallel()
	handlers := pure(t)
	tests := map[string]struct {
		text     func(t *testing.T, body []byte) string
		strategy string
	}{
		"20250127_143325_job_extraction_openai_stu901.json":     {text: openAIText, strategy: "none"},
		"20250127_143349_intent_analysis_anthropic_vwx234.json": {text: anthropicText, strategy: "global_multi_platform_strategy"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body, err := fs.ReadFile(schemas.Examples(), name)
			require.NoError(t, err)
			task, _, _, ok := doc.ParseFileName(name)
			require.True(t, ok)
			content, err := codec.String(tt.text(t, body))
			require.NoError(t, err)
			outs, err := walk(t, handlers, stagetest.Envelope(t, task, content))
			require.NoError(t, err)
			require.Equal(t, tt.strategy, outs[0].Doc.Routing.Strategy)
		})
	}
}

func openAIText(t *testing.T, body []byte) string {
	t.Helper()
	var r struct {
		Choices []struct {
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
		} `json:"choices"`
	}
	require.NoError(t, codec.Unmarshal(body, &r))
	return r.Choices[0].Message.Content
}

func anthropicText(t *testing.T, body []byte) string {
	t.Helper()
	var r struct {
		Content []struct {
			Text string `json:"text"`
		} `json:"content"`
	}
	require.NoError(t, codec.Unmarshal(body, &r))
	return r.Content[0].Text
}
