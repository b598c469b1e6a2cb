package up_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/contract"
)

func TestTheStoreIsTriedOverTheNetwork(t *testing.T) {
	t.Parallel()
	s := client(t)
	can, err := s.Probe(t.Context())
	require.NoError(t, err)
	require.True(t, can.ConditionalPut)
	require.True(t, can.Checksums)
	require.True(t, can.ListAfterPut)
	require.True(t, can.MultiDelete)
	require.False(t, can.BatchedPut)
	took, err := s.Measure(t.Context())
	require.NoError(t, err)
	require.Zero(t, took.Missing)
	require.Positive(t, took.ParallelPuts)
	require.Zero(t, took.BatchedObjects)
	for info, err := range s.List(t.Context(), contract.BucketProcessed, "_probe/") {
		require.NoError(t, err)
		if !strings.HasSuffix(info.Key, "/ready") { // of whoever asks whether the line is ready
			t.Errorf("%s is left", info)
		}
	}
}
