package main

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

// stayLean keeps a soft memory limit of the process near what is in use, unless GOMEMLIMIT or
// GOGC says otherwise, until the function it returns is called. It is for commands that have
// the whole line inside.
func stayLean() (stop func()) {
	for _, own := range []string{"GOMEMLIMIT", "GOGC"} {
		if _, set := os.LookupEnv(own); set {
			return func() {}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	former := debug.SetMemoryLimit(leanMemory)
	go func() {
		defer close(ended)
		followLive(ctx)
	}()
	return func() {
		cancel()
		<-ended
		debug.SetMemoryLimit(former)
	}
}

// followLive moves the limit with what is in use until ctx ends.
func followLive(ctx context.Context) {
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
