package up

import (
	"math"
	"testing"
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
		if got := leanLimit(c.live); got != c.want {
			t.Errorf("limit at %d in use is %d, want %d", c.live, got, c.want)
		}
	}
}
