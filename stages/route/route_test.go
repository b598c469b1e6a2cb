package route_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/stagetest"
	"github.com/jobspy/millrace/stages/route"
)

func build(tb testing.TB, settings map[string]string) stage.Handler {
	tb.Helper()
	h, err := route.New(tb.Context(), stagetest.Config[route.Config](tb, settings), stagetest.Deps())
	require.NoError(tb, err)
	return h
}

func TestGolden(t *testing.T) {
	t.Parallel()
	stagetest.Run(t, build)
}

func search() *doc.Document {
	d := &doc.Document{Name: "a.json", Lane: contract.High}
	d.Metadata = doc.Metadata{FileID: "doc-1", TaskType: string(contract.IntentAnalysis), Provider: "openai"}
	d.Standard = &doc.Standard{Intent: &doc.Intent{IsJobRelated: true}}
	d.Origin.Time = stagetest.Stored
	return d
}

// The messages of a search have different work ids, so that no retry replaces another, and
// carry one and the same deadline.
func TestSearchIsTheSameWhenDoneAgain(t *testing.T) {
	t.Parallel()
	h := build(t, map[string]string{"ROUTE_SOURCES": "greenhouse|lever|ashby"})

	first, err := h.Handle(t.Context(), search())
	require.NoError(t, err)
	again := search()
	again.Attempt = 3
	second, err := h.Handle(t.Context(), again)
	require.NoError(t, err)

	require.Equal(t, first, second)
	ids := map[string]bool{}
	for _, o := range first {
		ids[o.Doc.WorkID()] = true
		require.Equal(t, stagetest.Stored.Add(20*time.Second).UnixMilli(), o.Doc.Routing.Deadline)
	}
	require.Len(t, ids, 4)
	require.Equal(t, contract.TimerJoin, first[0].Doc.Timer)
	require.Equal(t, first[0].Doc.Routing.Deadline, first[0].At.UnixMilli())
}

func TestConfigTellsEveryProblem(t *testing.T) {
	t.Parallel()
	err := route.Config{SourceTime: -1}.Validate()
	for _, name := range []string{"JOIN_DEADLINE", "ROUTE_SOURCE_TIME", "ROUTE_SOURCES"} {
		require.ErrorContains(t, err, name)
	}
	_, err = route.New(t.Context(), route.Config{}, stagetest.Deps())
	require.ErrorContains(t, err, "JOIN_DEADLINE")
}

func TestSources(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, seek, global, err string }{
		{text: "greenhouse", seek: "greenhouse", global: "greenhouse"},
		{text: " greenhouse | lever ", seek: "greenhouse lever", global: "greenhouse lever"},
		{text: "seek_focused_strategy=lever,", seek: "lever"},
		{text: "a,seek_focused_strategy=b|c", seek: "b c", global: "a"},
		{text: "", seek: "", global: ""},
		{text: "a,b", err: "twice"},
		{text: "seek_focused_strategy=a,seek_focused_strategy=b", err: "twice"},
		{text: "seek=a", err: "no strategy"},
		{text: "=a", err: "no strategy"},
		{text: "Green House", err: "no name of a source"},
		{text: "a||b", err: "no name of a source"},
		{text: "seek_focused_strategy=", err: "no name of a source"},
		{text: "a.b", err: "no name of a source"},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			t.Parallel()
			var s route.Sources
			err := s.UnmarshalText([]byte(tt.text))
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.seek, strings.Join(s.For("seek_focused_strategy"), " "))
			require.Equal(t, tt.global, strings.Join(s.For("global_multi_platform_strategy"), " "))
		})
	}
}

// FuzzSources proves that no setting crashes the stage, and that every source can stand in a
// subject.
func FuzzSources(f *testing.F) {
	for _, seed := range []string{"greenhouse", "a|b", "seek_focused_strategy=a|b,c", "=,=", "|", "a=b=c", strings.Repeat("a|", 60) + "a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s route.Sources
		if s.UnmarshalText([]byte(text)) != nil {
			return
		}
		for _, strategy := range []string{"seek_focused_strategy", "indeed_ziprecruiter_strategy", "global_multi_platform_strategy", "none"} {
			for _, name := range s.For(strategy) {
				require.True(t, doc.ValidProvider(name), name)
			}
		}
	})
}

// FuzzHandle proves that no envelope crashes the stage and that its verdicts are permanent.
func FuzzHandle(f *testing.F) {
	for _, seed := range []string{
		`{"metadata":{"task_type":"intent_analysis"},"standard":{"intent":{"is_job_related":true,"confidence":-5}}}`,
		`{"metadata":{"task_type":"data_enrichment"},"standard":{}}`, `{"metadata":{"task_type":"x"}}`, `{}`,
	} {
		f.Add(seed)
	}
	h := build(f, nil)
	f.Fuzz(func(t *testing.T, body string) {
		in, err := stagetest.Input([]byte(body), nil)
		if err != nil {
			return
		}
		outs, err := h.Handle(t.Context(), in)
		if err != nil {
			require.Equal(t, fault.Permanent, fault.Of(err).Kind, "%v", err)
			return
		}
		require.NotEmpty(t, outs)
		for _, o := range outs {
			require.GreaterOrEqual(t, o.Doc.Routing.Confidence, 0.0)
			require.LessOrEqual(t, o.Doc.Routing.Confidence, 1.0)
		}
	})
}
