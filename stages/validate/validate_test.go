package validate_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/stagetest"
	"github.com/jobspy/millrace/stages/validate"
)

func build(tb testing.TB, settings map[string]string) stage.Handler {
	tb.Helper()
	h, err := validate.New(tb.Context(), stagetest.Config[validate.Config](tb, settings), stagetest.Deps())
	require.NoError(tb, err)
	return h
}

func TestGolden(t *testing.T) {
	t.Parallel()
	stagetest.Run(t, build)
}

func TestConfigTellsEveryProblem(t *testing.T) {
	t.Parallel()
	err := validate.Config{}.Validate()
	for _, name := range []string{"MAX_JSON_DEPTH", "MAX_JSON_VALUES", "MAX_SCHEMA_ERRORS"} {
		require.ErrorContains(t, err, name)
	}
	_, err = validate.New(t.Context(), validate.Config{}, stagetest.Deps())
	require.ErrorContains(t, err, "MAX_JSON_DEPTH")
}

func TestViolationsAreKeptInOrderAndNeverRepeatValues(t *testing.T) {
	t.Parallel()
	content := codec.Value(`{"jobs":[{"company":7,"title":"secret-value","url":["secret-value"]},3]}`)
	in, err := stagetest.Input(stagetest.Envelope(t, "job_extraction", content), nil)
	require.NoError(t, err)

	_, err = build(t, nil).Handle(t.Context(), in)

	require.Equal(t, contract.ReasonSchema, fault.Of(err).Reason)
	var found *validate.SchemaError
	require.ErrorAs(t, err, &found)
	require.Equal(t, 3, found.Total)
	require.Equal(t, []validate.Violation{
		{Pointer: "/content/jobs/0/company", Keyword: "type", Text: "want null or string or object, got number"},
		{Pointer: "/content/jobs/0/url", Keyword: "type", Text: "want null or string, got array"},
		{Pointer: "/content/jobs/1", Keyword: "type", Text: "want object, got number"},
	}, found.Violations)
	require.NotContains(t, err.Error(), "secret-value")
}

// Recorded outputs that hold a title must be valid; the others may only fail the schema.
func TestRecordedOutputs(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	counts := map[string]int{}
	for _, s := range stagetest.Jobs(t) {
		in, err := stagetest.Input(stagetest.Envelope(t, "job_extraction", s.Content), nil)
		require.NoError(t, err)
		outs, err := h.Handle(t.Context(), in)
		if err != nil {
			require.False(t, s.HasTitle, "%s has a title: %v", s.ID, err)
			require.Equal(t, contract.ReasonSchema, fault.Of(err).Reason, s.ID)
			counts["schema"]++
			continue
		}
		require.Len(t, outs, 1, s.ID)
		counts["valid"]++
	}
	t.Logf("recorded outputs: %v", counts)
}

// FuzzHandle proves that no content crashes the stage, that a verdict is always permanent
// and that what passes is an envelope whose content passes again unchanged.
func FuzzHandle(f *testing.F) {
	for _, seed := range []string{
		`{"jobs":[{"title":"a"}]}`, `[{"title":"a"}]`, `{"job":{"title":"a"}}`, `{"title":"a","company":null}`,
		`"{\"title\":\"a\"}"`, `"[1,2"`, `""`, `null`, `1e99999999`, `{"jobs":[{"title":"a","salary":-1.5e-7}]}`,
		`"\ud83d\ude00"`, `[[[[[[[[[[]]]]]]]]]]`, `{"intent":{"is_job_related":true}}`, `{"is_job_related":true}`,
	} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	h := build(f, nil)
	f.Fuzz(func(t *testing.T, content string, intent bool) {
		if codec.Check([]byte(content), 1000) != nil {
			return
		}
		task := contract.JobExtraction
		if intent {
			task = contract.IntentAnalysis
		}
		in := &doc.Document{Name: "a.json", Lane: contract.Normal}
		in.Metadata = doc.Metadata{FileID: "doc-1", TaskType: string(task), Provider: "openai"}
		in.Content = codec.Value(content)

		outs, err := h.Handle(t.Context(), in)
		if err != nil {
			require.Equal(t, fault.Permanent, fault.Of(err).Kind, "%v", err)
			require.Less(t, len(err.Error()), 8<<10)
			return
		}
		body, err := outs[0].Doc.Encode()
		require.NoError(t, err)
		again, err := stagetest.Input(body, nil)
		require.NoError(t, err)
		outs, err = h.Handle(t.Context(), again)
		require.NoError(t, err)
		require.Empty(t, outs[0].Doc.Validation.Coercions)
		require.Equal(t, string(again.Content), string(outs[0].Doc.Content))
	})
}
