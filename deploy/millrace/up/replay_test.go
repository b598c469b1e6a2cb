package up_test

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/letters"
)

// replay sends the newest dead letter of a document through the line again.
func replay(t *testing.T, q *letters.Queue, id string) {
	t.Helper()
	found, err := q.List(t.Context(), letters.Filter{FileID: id})
	require.NoError(t, err)
	require.Len(t, found, 1, "those that were replayed are hidden")
	_, err = q.Send(t.Context(), found[0].Seq, letters.Replay{})
	require.NoError(t, err)
}

// letterOf waits for the dead letter of a document with a replay count.
func letterOf(t *testing.T, id string, count int) *bus.Stored {
	t.Helper()
	return deadLetter(t, func(m *bus.Stored) bool {
		n := m.Header[contract.HeaderReplayCount]
		return m.Header[contract.HeaderFileID] == id && (n == strconv.Itoa(count) || (n == "" && count == 0))
	})
}

// rounds counts how often the test below ran, since the line stays the same for all of them.
var rounds atomic.Int64

func TestADeadLetterIsReplayedUntilItsCauseIsMended(t *testing.T) {
	t.Parallel()
	l, err := ledger.OpenLedger(t.Context(), line.Bus, time.Hour, time.Now)
	require.NoError(t, err)
	q := &letters.Queue{Bus: line.Bus, Ledger: l}

	// Facts about a document that is not there.
	round := rounds.Add(1)
	id, target := fmt.Sprintf("facts-%d", round), fmt.Sprintf("facts-target-%d", round)
	publish(t, "data_enrichment.openai", id, `{"content":{"target":{"file_id":"`+target+`"},"facts":{"rating":4}},"metadata":{}}`, nil)
	require.Equal(t, "llm.dlq.aggregate.unroutable", letterOf(t, id, 0).Subject)

	replay(t, q, id)
	require.Equal(t, "llm.dlq.aggregate.unroutable", letterOf(t, id, 1).Subject, "nothing was mended: it comes back with a higher count")

	publish(t, "job_extraction.openai", target, `{"jobs":[{"title":"Baker"}]}`, nil)
	require.Equal(t, ledger.Completed, entry(t, target).Holder.Kind)
	replay(t, q, id)
	require.Eventually(t, func() bool {
		e, err := l.Read(t.Context(), id)
		require.NoError(t, err)
		return e.State == ledger.Done && e.Replay == 2 && e.Holder.Kind == ledger.Completed
	}, waitFor, poll, "it completes")
}
