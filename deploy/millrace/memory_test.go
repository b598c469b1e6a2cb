package main

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheMemoryLimitGrowsWithWhatIsInUse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		live uint64
		want int64
	}{
		{0, leanMemory},
		{200 << 20, leanMemory},
		{400 << 20, (400<<20)/100*leanShare + leanRoom},
		{math.MaxUint64, (math.MaxInt64/leanShare-leanRoom)/100*leanShare + leanRoom},
	} {
		require.Equal(t, c.want, leanLimit(c.live), "%d bytes in use", c.live)
	}
}
