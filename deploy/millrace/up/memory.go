package up

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// What the collector is told of memory, in bytes unless it says otherwise.
const (
	// leanMemory is the soft limit up to which garbage may pile up.
	leanMemory = 300 << 20
	// leanShare, in hundredths of what is in use, and leanRoom beside that, for what is not on
	// the heap, are the soft limit where that is more: with less room the collector would take
	// CPU from the line.
	leanShare = 130
	leanRoom  = 24 << 20
	leanEvery = time.Second
)

// liveHeap is what the last collection found in use.
const liveHeap = "/gc/heap/live:bytes"

// stayLean keeps a soft memory limit near what is in use, until ctx ends, unless GOMEMLIMIT
// or GOGC says otherwise. It returns when the former limit is back.
func stayLean(ctx context.Context) {
	for _, own := range []string{"GOMEMLIMIT", "GOGC"} {
		if _, set := os.LookupEnv(own); set {
			return
		}
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(leanMemory))
	tick := time.NewTicker(leanEvery)
	defer tick.Stop()
	sample := []metrics.Sample{{Name: liveHeap}}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			metrics.Read(sample)
			debug.SetMemoryLimit(leanLimit(sample[0].Value.Uint64()))
		}
	}
}

// leanLimit is the soft limit where live bytes are in use.
func leanLimit(live uint64) int64 {
	live = min(live, math.MaxInt64/leanShare-leanRoom)
	return max(leanMemory, int64(live)/100*leanShare+leanRoom) //nolint:gosec // bounded above
}
