package bench

import (
	"context"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Quantiles describes how long something took, in milliseconds.
type Quantiles struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50_ms"`
	P90 float64 `json:"p90_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// quantiles returns the nearest ranks of times, which it sorts.
func quantiles(times []time.Duration) Quantiles {
	slices.Sort(times)
	n := len(times)
	if n == 0 {
		return Quantiles{}
	}
	rank := func(p float64) float64 {
		return milliseconds(times[max(int(math.Ceil(p*float64(n))), 1)-1])
	}
	return Quantiles{N: n, P50: rank(0.50), P90: rank(0.90), P99: rank(0.99), Max: milliseconds(times[n-1])}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// tenths returns the rate in each tenth of what came, in things a second. at is when each
// came, which it sorts; began is when the first could have come. Fewer than ten give none.
func tenths(began time.Time, at []time.Time) []float64 {
	slices.SortFunc(at, time.Time.Compare)
	const parts = 10
	if len(at) < parts {
		return nil
	}
	rates := make([]float64, parts)
	for i := range parts {
		first, last := i*len(at)/parts, (i+1)*len(at)/parts
		rates[i] = rate(last-first, at[last-1].Sub(began))
		began = at[last-1]
	}
	return rates
}

// rate returns things a second, 0 where there was no time.
func rate(n int, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// ratio returns a/b, 0 where there is no b.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// median returns the middle of values, the mean of the two in the middle where they are
// even, 0 where there are none.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	switch {
	case n == 0:
		return 0
	case n%2 == 1:
		return sorted[n/2]
	default:
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
}

// schedule returns when number i of rate things a second is due, whatever became of those
// before it.
func schedule(began time.Time, rate float64, i int) time.Time {
	return began.Add(time.Duration(float64(i) / rate * float64(time.Second)))
}

// burst is a load of equal pieces of work.
type burst struct {
	inFlight int           // pieces under way at one time
	count    int           // pieces; 0 means as many as there is time for
	span     time.Duration // no piece begins later, but for the least; 0 means no end
}

// waves is how many pieces each worker does at least where only the time is bounded: fewer
// would measure the start.
const waves = 2

// run does pieces of work, numbered from 0, and returns how many were done and the time from
// the start of the first to the end of the last. The first error ends it.
func (b burst) run(ctx context.Context, do func(ctx context.Context, i int) error) (int, time.Duration, error) {
	var next, done atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for range b.inFlight {
		g.Go(func() error {
			for ctx.Err() == nil {
				i := int(next.Add(1) - 1)
				late := b.span > 0 && time.Since(began) >= b.span
				if b.count > 0 && i >= b.count || late && i >= waves*b.inFlight {
					return nil
				}
				if err := do(ctx, i); err != nil {
					return err
				}
				done.Add(1)
			}
			return context.Cause(ctx)
		})
	}
	err := g.Wait()
	return int(done.Load()), time.Since(began), err
}
