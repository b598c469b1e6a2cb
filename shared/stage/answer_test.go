package stage_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/topology"
)

func TestABrokerThatLostTheStreamOfAnswersKeepsNoDocument(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{})
	// It is in memory, so that this is what a restart of the broker leaves.
	require.NoError(t, b.JetStream().DeleteStream(t.Context(), contract.StreamResult))
	r := setup(t, options{bus: b}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
		return append([]stage.Output{{Subject: contract.ResultSubject(in.Metadata.FileID), Body: []byte("{}")}}, next(in)...), nil
	}))
	r.send(envelope("f1"))
	r.until("LLM_ENRICH", 1)
	r.until("LLM_VALIDATE", 0)
	require.ErrorContains(t, r.runner.Ready(t.Context())["answers"], contract.StreamResult)

	plan := topology.Plan(topology.Options{})
	plan.Streams = slices.DeleteFunc(plan.Streams, func(s bus.StreamConfig) bool { return s.Name != contract.StreamResult })
	_, err := topology.Apply(t.Context(), b.JetStream(), topology.Topology{Streams: plan.Streams}, false)
	require.NoError(t, err)
	r.send(envelope("f2"))
	r.until("LLM_ENRICH", 2)
	require.NotContains(t, r.runner.Ready(t.Context()), "answers")
	require.Len(t, r.all(contract.StreamResult), 1)
}
