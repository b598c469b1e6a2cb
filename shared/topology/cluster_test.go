package topology_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/topology"
)

func TestOneCopyBecomesThree(t *testing.T) {
	t.Parallel()
	servers := bustest.Cluster(t)
	js := bustest.Connect(t, servers[0]).JetStream()
	_, err := topology.Apply(t.Context(), js, topology.Plan(bustest.Options(topology.Options{})), false)
	require.NoError(t, err)
	three := topology.Plan(bustest.Options(topology.Options{Replicas: len(servers)}))
	_, err = topology.Apply(t.Context(), js, three, false)
	require.NoError(t, err)
	found, err := topology.Check(t.Context(), js, three)
	require.NoError(t, err)
	require.Empty(t, found)
}
