package bench

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestQuantilesAreNearestRanks(t *testing.T) {
	t.Parallel()
	upTo := func(n int) []time.Duration {
		var all []time.Duration
		for i := n; i > 0; i-- { // not in their order
			all = append(all, time.Duration(i)*time.Millisecond)
		}
		return all
	}
	tests := []struct {
		name  string
		times []time.Duration
		want  Quantiles
	}{
		{"nothing", nil, Quantiles{}},
		{"one", upTo(1), Quantiles{N: 1, P50: 1, P90: 1, P99: 1, Max: 1}},
		{"two", upTo(2), Quantiles{N: 2, P50: 1, P90: 2, P99: 2, Max: 2}},
		{"ten", upTo(10), Quantiles{N: 10, P50: 5, P90: 9, P99: 10, Max: 10}},
		{"a thousand", upTo(1000), Quantiles{N: 1000, P50: 500, P90: 900, P99: 990, Max: 1000}},
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, quantiles(tt.times), tt.name)
	}
}

func TestTenthsShowASlope(t *testing.T) {
	t.Parallel()
	began := time.Unix(0, 0)
	var steady, slower []time.Time
	for i := range 100 {
		steady = append(steady, began.Add(time.Duration(i+1)*10*time.Millisecond))
		gap := 10 * time.Millisecond
		if i >= 90 {
			gap = 40 * time.Millisecond
		}
		last := began
		if i > 0 {
			last = slower[i-1]
		}
		slower = append(slower, last.Add(gap))
	}
	for _, r := range tenths(began, steady) {
		require.InDelta(t, 100, r, 1e-6)
	}
	got := tenths(began, slower)
	require.Len(t, got, 10)
	require.InDelta(t, 100, got[0], 1e-6)
	require.InDelta(t, 25, got[9], 1e-6)
	require.Nil(t, tenths(began, steady[:9]))
}

func TestTheScheduleDependsOnNothingButTheRate(t *testing.T) {
	t.Parallel()
	began := time.Unix(100, 0)
	require.Equal(t, began, schedule(began, 50, 0))
	require.Equal(t, began.Add(20*time.Millisecond), schedule(began, 50, 1))
	require.Equal(t, began.Add(30*time.Second), schedule(began, 50, 1500))
	require.Equal(t, began.Add(4*time.Second), schedule(began, 0.25, 1))
}

func TestMedian(t *testing.T) {
	t.Parallel()
	require.Zero(t, median(nil))
	require.InDelta(t, 3, median([]float64{9, 1, 3}), 0)
	require.InDelta(t, 2.5, median([]float64{4, 1, 3, 2}), 0)
}

func TestABurstKeepsItsBounds(t *testing.T) {
	t.Parallel()
	var now, over atomic.Int64
	n, took, err := burst{inFlight: 4, count: 100}.run(t.Context(), func(context.Context, int) error {
		if now.Add(1) > 4 {
			over.Add(1)
		}
		now.Add(-1)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 100, n)
	require.Positive(t, took)
	require.Zero(t, over.Load())

	n, took, err = burst{inFlight: 2, span: 20 * time.Millisecond}.run(t.Context(), func(context.Context, int) error { return nil })
	require.NoError(t, err)
	require.Positive(t, n)
	require.GreaterOrEqual(t, took, 20*time.Millisecond)

	n, _, err = burst{inFlight: 3, span: 1}.run(t.Context(), func(context.Context, int) error { return nil })
	require.NoError(t, err)
	require.Equal(t, waves*3, n, "a span that is too short is stretched")

	broken := errors.New("broken")
	n, _, err = burst{inFlight: 2, count: 100}.run(t.Context(), func(_ context.Context, i int) error {
		if i == 3 {
			return broken
		}
		return nil
	})
	require.ErrorIs(t, err, broken)
	require.Less(t, n, 100)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = burst{inFlight: 2, count: 100}.run(ctx, func(context.Context, int) error { return nil })
	require.ErrorIs(t, err, context.Canceled)
}
