package aggregate

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/ledger"
)

// enrichment is a document with facts about a target, verdict one with a judgement.
func enrichment(fileID string, target doc.Target, facts string) *doc.Document {
	d := document(fileID, contract.DataEnrichment)
	d.Standard = &doc.Standard{Target: &target, Facts: codec.Value(facts)}
	return d
}

func verdict(fileID string, target doc.Target, text string) *doc.Document {
	d := document(fileID, contract.QualityValidation)
	score := 0.25
	d.Standard = &doc.Standard{Target: &target, Review: &doc.Verdict{Verdict: text, Score: &score, Issues: codec.Value(`["vague"]`)}}
	return d
}

// completed returns a bundle with one finished search and the id of its job.
func completed(t *testing.T) (*bundle, string) {
	t.Helper()
	b := setup(t)
	j := job("a", "1", "Cook", "Cafe", "Perth")
	j.Extra = codec.Value(`{"zeta":1,"alpha":{"b":1,"a":2}}`)
	b.kept(answerOf("a", doc.SourceOK, []doc.JobPosting{j}, "a", "b"))
	b.done(deadlineOf("a", "b"))
	b.complete("doc-1", ledger.Completed)
	return b, b.result("doc-1").Jobs[0].JobID
}

func TestChangesGiveTheSameResultInWhateverOrder(t *testing.T) {
	t.Parallel()
	var results []string
	for _, order := range [][]int{{0, 1, 2, 3, 4}, {4, 3, 2, 1, 0}, {2, 0, 4, 1, 3}} {
		b, id := completed(t)
		steps := []func(){
			func() {
				b.done(enrichment("enr-1", doc.Target{FileID: "doc-1"}, `{"tier":"gold","a":{"y":1,"x":2.0}}`))
			},
			func() { b.done(enrichment("enr-2", doc.Target{FileID: "doc-1"}, `{"tier":"silver"}`)) },
			func() { b.done(enrichment("enr-3", doc.Target{JobID: id}, `{"salary":"90k"}`)) },
			func() { b.done(verdict("ver-1", doc.Target{JobID: id, FileID: "doc-1"}, "reject")) },
			func() {
				b.kept(answerOf("b", doc.SourceOK, []doc.JobPosting{job("b", "2", "Baker", "Cafe", "Perth")}, "a", "b"))
			},
		}
		for _, i := range order {
			steps[i]()
			steps[i]() // delivered again
		}
		results = append(results, b.object("doc-1"))
	}
	require.Equal(t, results[0], results[1])
	require.Equal(t, results[0], results[2])
	var r result
	require.NoError(t, codec.Unmarshal([]byte(results[0]), &r))
	require.Len(t, r.Jobs, 2)
	require.Len(t, r.Enrichments, 3)
	require.Len(t, r.Verdicts, 1)
	require.JSONEq(t, `{"tier":"silver","a":{"y":1,"x":2.0}}`, string(r.Facts))
	require.Nil(t, r.Verdict)
	extra := ""
	for _, j := range r.Jobs {
		if j.Title == "Cook" {
			extra = string(j.Extra)
		}
	}
	require.JSONEq(t, `{"alpha":{"b":1,"a":2},"enriched":{"salary":"90k"},"zeta":1,"verdict":{"verdict":"reject","score":0.25,"issues":["vague"]}}`, extra)
}

func TestWhatIsSaidWhileAResultIsBeingStoredIsInIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	d := document("doc-1", contract.JobExtraction)
	d.Standard = &doc.Standard{Jobs: []doc.JobPosting{job("a", "1", "Cook", "Cafe", "Perth")}}
	outs, err := b.made(d)
	require.NoError(t, err)
	require.Len(t, outs[0].Objects, 1)
	require.Empty(t, b.objects.Put(t.Context(), outs[0].Objects...))
	b.complete("doc-1", ledger.Completed)
	b.done(enrichment("enr-1", doc.Target{FileID: "doc-1"}, `{"tier":"gold"}`))
	want := b.object("doc-1")
	b.settle(outs) // the store took its time
	require.Equal(t, want, b.object("doc-1"))
	require.Len(t, b.result("doc-1").Enrichments, 1)
}

func TestAChangeHasAResultOfItsOwn(t *testing.T) {
	t.Parallel()
	b, _ := completed(t)
	o, answer := b.done(verdict("ver-1", doc.Target{FileID: "doc-1"}, "accept"))
	require.Equal(t, contract.OutcomeVerdict, o.Outcome)
	require.Contains(t, answer, `"change":{"file_id":"ver-1","target":{"file_id":"doc-1"},"verdict":{"verdict":"accept"`)
	o, _ = b.done(enrichment("enr-1", doc.Target{FileID: "doc-1"}, `{"a":1}`))
	require.Equal(t, contract.OutcomeMerged, o.Outcome)
	require.Equal(t, "accept", b.result("doc-1").Verdict.Verdict)

	b.complete("enr-1", ledger.Completed)
	b.done(enrichment("enr-2", doc.Target{FileID: "enr-1"}, `{"source":"survey"}`))
	r := b.result("enr-1")
	require.NotNil(t, r.Change, "what is said about a change leaves the change")
	require.Len(t, r.Enrichments, 1)
}

func TestAForgottenJoinIsMadeUpForByTheResult(t *testing.T) {
	t.Parallel()
	b, id := completed(t)
	b.done(enrichment("enr-1", doc.Target{JobID: id}, `{"a":1}`))
	kv, err := b.bus.KV(t.Context(), contract.KVJoin)
	require.NoError(t, err)
	before := b.object("doc-1")
	require.NoError(t, kv.Delete(t.Context(), "doc-1"))
	require.NoError(t, kv.Delete(t.Context(), aboutKey("doc-1")))
	b.done(enrichment("enr-2", doc.Target{JobID: id}, `{"b":2}`))
	r := b.result("doc-1")
	require.Len(t, r.Enrichments, 2)
	require.JSONEq(t, `{"alpha":{"b":1,"a":2},"enriched":{"a":1,"b":2},"zeta":1}`, string(r.Jobs[0].Extra))

	require.NoError(t, r.strip())
	var first result
	require.NoError(t, codec.Unmarshal([]byte(before), &first))
	require.NoError(t, first.strip())
	require.Equal(t, first, r)
}

func TestATargetIsWaitedForAndThenUnroutable(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		target doc.Target
		text   string
		given  func(b *bundle)
		waits  bool
	}{
		{"unknown", doc.Target{FileID: "doc-9"}, "not known", func(*bundle) {}, true},
		{"on its way", doc.Target{FileID: "doc-9"}, "not ended", func(b *bundle) {
			_, _, err := b.ledger.Open(b.t.Context(), "doc-9", ledger.Entry{})
			require.NoError(b.t, err)
		}, true},
		{"a dead letter", doc.Target{FileID: "doc-9"}, "dead letter", func(b *bundle) { b.complete("doc-9", ledger.Dead) }, true},
		{"another job", doc.Target{JobID: "doc-1_ffffffff"}, "not in the result", func(*bundle) {}, true},
		{"a job of another file", doc.Target{JobID: "doc-1_ffffffff", FileID: "doc-9"}, "not of file", func(*bundle) {}, false},
		{"no id", doc.Target{JobID: "nonsense"}, "no id", func(*bundle) {}, false},
		{"itself", doc.Target{FileID: "enr-1"}, "its own target", func(*bundle) {}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, _ := completed(t)
			tt.given(b)
			b.now = created.Add(19 * time.Second)
			_, err := b.handle(enrichment("enr-1", tt.target, `{}`))
			require.ErrorContains(t, err, tt.text)
			v := fault.Of(err)
			if tt.waits {
				require.Equal(t, fault.Waiting, v.Kind)
				require.Equal(t, time.Second, v.After, "not beyond the deadline")
				b.now = created.Add(20 * time.Second)
				_, err = b.handle(enrichment("enr-1", tt.target, `{}`))
				v = fault.Of(err)
			}
			require.Equal(t, fault.Permanent, v.Kind)
			require.Equal(t, contract.ReasonUnroutable, v.Reason)
			require.ErrorContains(t, err, "target")
		})
	}
}

func TestManyChangesAtOnceAreAllInTheResult(t *testing.T) {
	t.Parallel()
	b, id := completed(t)
	var all sync.WaitGroup
	for i := range 12 {
		d := enrichment(fmt.Sprintf("enr-%02d", i), doc.Target{JobID: id}, fmt.Sprintf(`{"f%d":%d}`, i, i))
		all.Go(func() {
			if outs, err := b.stage.Handle(t.Context(), d); err != nil || len(outs) != 2 {
				t.Error(len(outs), err)
			}
		})
	}
	all.Wait()
	require.Len(t, b.result("doc-1").Enrichments, 12)
}

func TestWhatIsSaidAboutADocumentIsBounded(t *testing.T) {
	t.Parallel()
	b, _ := completed(t)
	big := `{"text":"` + strings.Repeat("x", 9<<20) + `"}`
	b.done(enrichment("enr-1", doc.Target{FileID: "doc-1"}, big))
	for id, facts := range map[string]string{"enr-2": big, "enr-3": `{"text":"` + strings.Repeat("x", 17<<20) + `"}`} {
		_, err := b.handle(enrichment(id, doc.Target{FileID: "doc-1"}, facts))
		require.Equal(t, contract.ReasonOversize, fault.Of(err).Reason)
	}
}
