package aggregate

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/stagetest"
	"github.com/jobspy/millrace/shared/store"
)

func TestTheAnswerThatCompletesAJoinMakesTheResult(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := []doc.JobPosting{job("a", "1", "Python Developer", "Acme Inc", "Sydney")}
	two := []doc.JobPosting{job("b", "9", "python developer", "ACME", "sydney"), job("b", "8", "Go Developer", "Acme", "Perth")}
	b.kept(answerOf("a", doc.SourceOK, one, "a", "b"))
	b.kept(answerOf("a", doc.SourceOK, one, "a", "b")) // delivered again
	o, answer := b.done(answerOf("b", doc.SourceOK, two, "a", "b"))
	require.Equal(t, contract.OutcomeJobs, o.Outcome)
	require.Equal(t, []doc.SourceReport{{Source: "a", Status: "ok", Jobs: 1}, {Source: "b", Status: "ok", Jobs: 2}}, o.Sources)
	require.Len(t, o.Objects, 2)
	require.Equal(t, answer, b.object("doc-1"))
	r := b.result("doc-1")
	require.Len(t, r.Jobs, 2, "the same job of two sources stands there once")
	for _, j := range r.Jobs {
		require.True(t, strings.HasPrefix(j.JobID, "doc-1_"), j.JobID)
		require.InDelta(t, 0.55, *j.Quality, 0.0001)
	}
	require.Contains(t, answer, `"enrichments":[]`)
	require.Contains(t, answer, `"verdicts":[]`)

	again, sameAnswer := b.done(answerOf("b", doc.SourceOK, two, "a", "b"))
	require.Equal(t, o, again)
	require.Equal(t, answer, sameAnswer)
	b.kept(deadlineOf("a", "b"))
	b.kept(answerOf("a", doc.SourceOK, one, "a", "b"))
}

func TestTheOrderOfAnswersDoesNotMatter(t *testing.T) {
	t.Parallel()
	jobs := map[string][]doc.JobPosting{
		"a": {job("a", "1", "Python Developer", "Acme", "Sydney"), job("a", "2", "Ruby Developer", "Acme", "")},
		"b": {job("b", "7", "Python developer", "Acme Pty Ltd", "Sydney")},
		"c": {job("c", "x", "Python Developer", "", "Sydney")},
	}
	jobs["b"][0].URL = "https://example.org/7"
	objects := map[string]bool{}
	for _, order := range []string{"abc", "acb", "bac", "bca", "cab", "cba"} {
		b := setup(t)
		for i, s := range strings.Split(order, "") {
			in := answerOf(s, doc.SourceOK, jobs[s], "a", "b", "c")
			if i < 2 {
				b.kept(in)
			} else {
				b.done(in)
			}
		}
		objects[b.object("doc-1")] = true
		r := b.result("doc-1")
		require.Len(t, r.Jobs, 3)
		require.Equal(t, "7", r.Jobs[0].Identifier, "the most complete copy is kept, and stands first")
	}
	require.Len(t, objects, 1)
}

func TestTheDeadlineClosesAJoinWithWhatIsThere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	late := answerOf("b", doc.SourceOK, []doc.JobPosting{job("b", "8", "Go Developer", "Acme", "Perth")}, "a", "b")
	b.kept(answerOf("a", doc.SourceUnreachable, nil, "a", "b"))
	o, first := b.done(deadlineOf("a", "b"))
	require.Equal(t, contract.OutcomeDegraded, o.Outcome)
	require.Equal(t, []doc.SourceStatus{"unreachable", "timeout"}, []doc.SourceStatus{o.Sources[0].Status, o.Sources[1].Status})
	require.Empty(t, b.result("doc-1").Jobs)

	b.kept(late)
	r := b.result("doc-1")
	require.Len(t, r.Jobs, 1, "a late answer changes the result object")
	require.Equal(t, doc.SourceOK, r.Sources[1].Status)
	changed := b.object("doc-1")
	require.NotEqual(t, first, changed)
	b.kept(late)

	again, _ := b.done(deadlineOf("a", "b"))
	require.Equal(t, o, again, "the record never changes")
	require.Equal(t, changed, b.object("doc-1"), "nor does a redelivery take back what came late")
}

func TestNoAnswerAtAllIsDegradedAndNoMatchIsNot(t *testing.T) {
	t.Parallel()
	b := setup(t)
	o, _ := b.done(deadlineOf("a"))
	require.Equal(t, contract.OutcomeDegraded, o.Outcome)
	b = setup(t)
	o, answer := b.done(answerOf("a", doc.SourceOK, nil, "a"))
	require.Equal(t, contract.OutcomeJobs, o.Outcome)
	require.Contains(t, answer, `"jobs":[]`)
}

func TestAReplayBeginsTheJoinAnew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	old := []doc.JobPosting{job("a", "1", "Old", "Acme", "Perth")}
	b.done(answerOf("a", doc.SourceOK, old, "a"))
	replayed := answerOf("a", doc.SourceOK, []doc.JobPosting{job("a", "2", "New", "Acme", "Perth")}, "a", "b")
	replayed.Replay = 1
	b.kept(replayed)
	b.kept(answerOf("a", doc.SourceOK, old, "a")) // of the first time, delivered again
	b.kept(deadlineOf("a"))
	end := deadlineOf("a", "b")
	end.Replay = 1
	o, _ := b.done(end)
	require.Equal(t, contract.OutcomeJobs, o.Outcome)
	r := b.result("doc-1")
	require.Len(t, r.Jobs, 1)
	require.Equal(t, "New", r.Jobs[0].Title)
}

func TestOneOfManyWhoEndAJoinAtOnceWins(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sources := strings.Split("abcdefgh", "")
	var mu sync.Mutex
	ends := 0
	var all sync.WaitGroup
	take := func(d *doc.Document) {
		outs, err := b.stage.Handle(t.Context(), d)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			t.Error(err)
		}
		if len(outs) > 0 {
			ends++
		}
	}
	for _, s := range sources {
		d := answerOf(s, doc.SourceOK, []doc.JobPosting{job(s, "1", "Job "+s, "Acme", "Perth")}, sources...)
		all.Go(func() { take(d) })
	}
	d := deadlineOf(sources...)
	all.Go(func() { take(d) })
	all.Wait()
	require.Equal(t, 1, ends)
	require.Len(t, b.result("doc-1").Jobs, len(sources), "every answer is in the result, late or not")
}

func TestDocumentsThatNeedNoSearch(t *testing.T) {
	t.Parallel()
	extracted := document("doc-1", contract.JobExtraction)
	extracted.Standard = &doc.Standard{Jobs: []doc.JobPosting{job("", "", "Cook", "", ""), job("", "", "cook", "", ""), job("", "", "Waiter", "Cafe", "Perth")}}
	extracted.Standard.Jobs[2].Extra = codec.Value(`{"verdict":"mine","beds":2,"enriched":1}`)
	none := document("doc-1", contract.JobExtraction)
	none.Standard = &doc.Standard{}
	other := document("doc-1", contract.IntentAnalysis)
	other.Standard = &doc.Standard{Intent: &doc.Intent{}}
	sourceless := document("doc-1", contract.IntentAnalysis)
	sourceless.Standard = &doc.Standard{Intent: &doc.Intent{IsJobRelated: true}}
	split := document("doc-1", contract.JobExtraction)
	split.Outcome = &doc.Outcome{Outcome: contract.OutcomeSplit}
	tests := []struct {
		name string
		in   *doc.Document
		want contract.Outcome
		jobs int
	}{
		{"extracted jobs are their own result, each once", extracted, contract.OutcomeJobs, 2},
		{"an extraction without jobs is stored", none, contract.OutcomeStored, 0},
		{"what is not about jobs is not searched for", other, contract.OutcomeNoSearch, 0},
		{"a search with nobody to ask is degraded", sourceless, contract.OutcomeDegraded, 0},
		{"a document that was split has ended", split, contract.OutcomeSplit, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			o, answer := b.done(tt.in)
			require.Equal(t, tt.want, o.Outcome)
			require.Len(t, b.result("doc-1").Jobs, tt.jobs)
			require.Equal(t, answer, b.object("doc-1"))
			require.Contains(t, answer, `"tenant":"t1"`)
			require.NotContains(t, answer, "mine", "reserved members of a job are dropped")
			_, sameAnswer := b.done(tt.in)
			require.Equal(t, answer, sameAnswer)
		})
	}
}

func TestAnAnswerTooLargeForAMessageNamesTheResult(t *testing.T) {
	t.Parallel()
	b := setup(t)
	in := document("doc-1", contract.JobExtraction)
	in.Metadata.UserQuery = strings.Repeat("q", maxAnswer)
	in.Standard = &doc.Standard{Jobs: []doc.JobPosting{job("", "", "Cook", "Cafe", "Perth")}}
	_, answer := b.done(in)
	require.Less(t, len(answer), 2000)
	require.Contains(t, answer, `"result":{"bucket":"job-data","key":"processed/2026-09-01/doc-1.json"}`)
	require.Contains(t, answer, `"jobs_omitted":1`)
	require.Len(t, b.result("doc-1").Jobs, 1)
}

func TestInputsThatAreNone(t *testing.T) {
	t.Parallel()
	bare := document("doc-1", contract.JobExtraction)
	unknown := document("doc-1", "poetry")
	unknown.Standard = &doc.Standard{}
	stranger := answerOf("z", doc.SourceOK, nil, "a")
	empty := deadlineOf()
	timer := document("doc-1", contract.IntentAnalysis)
	timer.Timer = "other"
	decided := document("doc-1", contract.IntentAnalysis)
	decided.Outcome = &doc.Outcome{Outcome: contract.OutcomeJobs}
	intentless := document("doc-1", contract.IntentAnalysis)
	intentless.Standard = &doc.Standard{}
	for name, tt := range map[string]struct {
		in   *doc.Document
		want contract.Reason
	}{
		"no standard form": {bare, contract.ReasonMalformed}, "no known task": {unknown, contract.ReasonUnroutable},
		"an answer nobody asked for": {stranger, contract.ReasonMalformed}, "a deadline without sources": {empty, contract.ReasonMalformed},
		"another timer": {timer, contract.ReasonUnroutable}, "a search without answer": {search("a"), contract.ReasonUnroutable},
		"an outcome decided too early": {decided, contract.ReasonUnroutable}, "no intent": {intentless, contract.ReasonMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outs, err := setup(t).handle(tt.in)
			require.Empty(t, outs)
			require.Equal(t, fault.Permanent, fault.Of(err).Kind)
			require.Equal(t, tt.want, fault.Of(err).Reason)
		})
	}
}

func TestAJoinHoldsReferencesOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	long := job("a", "1", "Cook", "Cafe", "Perth")
	long.Description = strings.Repeat("word ", 10000)
	b.kept(answerOf("a", doc.SourceOK, []doc.JobPosting{long}, "a", "b"))
	kv, err := b.bus.KV(t.Context(), contract.KVJoin)
	require.NoError(t, err)
	e, err := kv.Get(t.Context(), "doc-1")
	require.NoError(t, err)
	require.Less(t, len(e.Value), 500)
	require.True(t, bytes.Contains(e.Value, []byte(`"llm-processed","key":"_claim/doc-1/answer-a-r0.json"`)), string(e.Value))
}

func TestAStoreThatIsDownStopsTheDocumentAndLosesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	handler, err := New(t.Context(), stagetest.Config[Config](t, nil), stage.Deps{
		Ledger: b.ledger, Bus: b.bus, Store: store.NewMemory(nil), Clock: func() time.Time { return b.now },
	})
	require.NoError(t, err)
	in := answerOf("a", doc.SourceOK, []doc.JobPosting{job("a", "1", "Cook", "Cafe", "Perth")}, "a")
	outs, err := handler.Handle(t.Context(), in)
	require.Empty(t, outs)
	require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
	o, _ := b.done(in)
	require.Equal(t, contract.OutcomeJobs, o.Outcome)
}
