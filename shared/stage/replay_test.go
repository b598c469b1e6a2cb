package stage_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/stage"
)

func TestADocumentThatWasReplayedTooOftenIsRejected(t *testing.T) {
	t.Parallel()
	r := setup(t, options{replayMax: 3}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) { return next(in), nil }))
	send := func(replay int, from contract.Stage) {
		d := envelope("f1")
		d.Replay, d.ReplayOf = replay, "7"
		body, err := d.Encode()
		require.NoError(t, err)
		h := d.Headers(from)
		if from == "" {
			delete(h, contract.HeaderStage) // as a replay comes
		}
		_, err = r.bus.Publish(t.Context(), bus.Message{
			Subject: contract.StageSubject(contract.Validate, contract.Normal, "job_extraction", "openai"), Header: h, Body: body,
		})
		require.NoError(t, err)
	}
	send(3, "")
	r.until("LLM_ENRICH", 1)
	send(4, "")
	dead := r.until(contract.StreamDLQ, 1)[0]
	require.Equal(t, "llm.dlq.validate.rejected", dead.Subject)
	require.Equal(t, "4", dead.Header[contract.HeaderReplayCount])
	require.Equal(t, "too many replays: this is number 4, REPLAY_MAX is 3", dead.Header[contract.HeaderError])
	send(4, contract.Ingest)
	r.until("LLM_ENRICH", 2) // what is on its way when the limit is lowered goes on
}
