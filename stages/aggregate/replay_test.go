package aggregate

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
)

// A dead letter of one answer is replayed: nobody asks the other sources again and no
// deadline comes, so the document never ends.
func TestAReplayedAnswerEndsItsDocument(t *testing.T) {
	b := setup(t)
	b.kept(answerOf("alpha", doc.SourceOK, []doc.JobPosting{job("alpha", "1", "t", "c", "p")}, "alpha", "beta"))
	// beta's answer (replay 0) became a dead letter here. The deadline closes the join, but
	// the archive loses to the dead letter. The operator replays it:
	r := answerOf("beta", doc.SourceOK, nil, "alpha", "beta")
	r.Replay = 1
	b.now = created.Add(time.Hour)
	outs, err := b.handle(r)
	require.NoError(t, err)
	late := deadlineOf("alpha", "beta")
	more, err := b.handle(late)
	require.NoError(t, err)
	require.NotEmpty(t, append(outs, more...), "nothing ends the document any more")
	_ = contract.Archive
}

// A dead letter of the deadline is replayed: what the sources gave is forgotten.
func TestAReplayedDeadlineKeepsTheAnswers(t *testing.T) {
	b := setup(t)
	b.kept(answerOf("alpha", doc.SourceOK, []doc.JobPosting{job("alpha", "1", "t", "c", "p")}, "alpha", "beta"))
	d := deadlineOf("alpha", "beta")
	d.Replay = 1
	o, _ := b.done(d)
	require.Equal(t, contract.OutcomeJobs, o.Outcome)
}
