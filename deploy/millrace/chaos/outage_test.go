//go:build integration

package chaos

import (
	"cmp"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// leastRest is what the line may take to come to rest however short an outage was: its
// breakers try again in their own time, and the machine may have others to serve.
const leastRest = 2 * time.Minute

// TestAnOutageOfTheStoreCostsNothing takes the store away under load, which ends when it
// returns: nothing is a dead letter, and all is done in the time that the outage took.
// OUTAGE_FOR and OUTAGE_RATE make it longer and harder, as make chaos/outage does.
func TestAnOutageOfTheStoreCostsNothing(t *testing.T) {
	t.Parallel()
	last, err := time.ParseDuration(cmp.Or(os.Getenv("OUTAGE_FOR"), "20s"))
	require.NoError(t, err, "OUTAGE_FOR")
	rate, err := strconv.ParseFloat(cmp.Or(os.Getenv("OUTAGE_RATE"), "30"), 64)
	require.NoError(t, err, "OUTAGE_RATE")
	r, err := Run(t.Context(), Settings{
		Config: config(t), Rate: rate, Sound: true, Drain: max(last, leastRest),
		Plan:   Plan{For: firstAt + last, Topology: Stages, Disks: fillable(t, last, rate)},
		Events: []Event{{At: firstAt, For: last, Kind: KillStore}},
	})
	require.NoError(t, err)
	r.Print(t.Output())
	require.True(t, r.OK(), "an invariant is broken")
	require.Zero(t, r.Found.Dead, "dead letters %v", r.Found.Reasons)
	require.LessOrEqual(t, r.Drained, max(last, leastRest))
	require.Greater(t, float64(r.Found.Completed), 0.8*rate*last.Seconds(), "there was hardly any load")
}
