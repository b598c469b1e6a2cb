package aggregate

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
)

func TestAReplayedAnswerEndsItsDocument(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.kept(answerOf("alpha", doc.SourceOK, []doc.JobPosting{job("alpha", "1", "t", "c", "p")}, "alpha", "beta"))
	// The answer of beta became a dead letter and is replayed. Nobody asks the other sources
	// again.
	r := answerOf("beta", doc.SourceOK, nil, "alpha", "beta")
	r.Replay = 1
	b.now = created.Add(time.Hour)
	outs, err := b.handle(r)
	require.NoError(t, err)
	late := deadlineOf("alpha", "beta")
	more, err := b.handle(late)
	require.NoError(t, err)
	require.NotEmpty(t, append(outs, more...), "nothing ends the document any more")
}

func TestAReplayedDeadlineKeepsTheAnswers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.kept(answerOf("alpha", doc.SourceOK, []doc.JobPosting{job("alpha", "1", "t", "c", "p")}, "alpha", "beta"))
	d := deadlineOf("alpha", "beta")
	d.Replay = 1
	o, _ := b.done(d)
	require.Equal(t, contract.OutcomeJobs, o.Outcome)
}
