package topology_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/topology"
)

func TestApplyMakesAllInABroker(t *testing.T) {
	t.Parallel()
	j := bustest.Connect(t, bustest.Server(t))
	plan := topology.Plan(bustest.Options(topology.Options{}))
	start := time.Now()
	changes, err := topology.Apply(t.Context(), j.JetStream(), plan, false)
	require.NoError(t, err)
	t.Log(time.Since(start), len(changes))
	for _, c := range changes {
		require.Equal(t, topology.Created, c.Action, c.Name)
	}
	start = time.Now()
	changes, err = topology.Apply(t.Context(), j.JetStream(), plan, false)
	require.NoError(t, err)
	t.Log(time.Since(start))
	for _, c := range changes {
		require.Equal(t, topology.Unchanged, c.Action, "%s %v", c.Name, c.Fields)
	}
}
