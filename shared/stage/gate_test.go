package stage

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// begun lets n pieces of work through the gate, one after the other, and returns how long
// that took.
func begun(t *testing.T, g *gate, n int) time.Duration {
	t.Helper()
	began := time.Now()
	for range n {
		require.NoError(t, sleep(t.Context(), g.ramp()))
		require.NoError(t, g.wait(t.Context()))
	}
	return time.Since(began)
}

func TestWorkBeginsAgainByARampAfterAnOutage(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		require.Zero(t, begun(t, g, 50), "nothing was down")

		g.block("store", down)
		require.NoError(t, sleep(t.Context(), rampAfter-time.Nanosecond))
		g.release("store")
		require.Zero(t, begun(t, g, 50), "a hiccup is no outage")

		g.block("store", down)
		g.block("broker", down)
		require.NoError(t, sleep(t.Context(), rampAfter))
		g.release("store")
		g.release("broker")
		require.Equal(t, rampFirst, begun(t, g, 1))
		rest := begun(t, g, 50)
		require.Greater(t, rest, 300*time.Millisecond)
		require.Less(t, rest, 500*time.Millisecond)
		require.Zero(t, begun(t, g, 50), "the ramp is over")
	})
}
