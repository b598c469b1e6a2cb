package stage

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/contract"
)

// tick is what is seen of a stream in one look: how many messages came since the look
// before, and how many are in it.
type tick struct {
	came, messages uint64
}

func ticks(n int, t tick) []tick {
	all := make([]tick, n)
	for i := range all {
		all[i] = t
	}
	return all
}

func TestWayIsGivenToABurstOnly(t *testing.T) {
	t.Parallel()
	const most = 3 * time.Second
	tests := []struct {
		name string
		see  []tick
		give string // + for each look after which way is given
	}{
		{"a queue that nobody adds to is worked off", ticks(8, tick{0, 9000}), "--------"},
		{"a short queue is worked off", ticks(8, tick{50, giveWayFrom - 1}), "--------"},
		{
			"producers that come no faster are waited for in vain, and not soon again",
			ticks(64, tick{17, 900}), strings.Repeat("+", 12) + strings.Repeat("-", 50) + "++",
		},
		{
			"producers that come faster are let in, until they are through",
			append(append(ticks(8, tick{17, 900}), ticks(8, tick{150, 2000})...), ticks(4, tick{0, 3000})...),
			strings.Repeat("+", 18) + "--",
		},
		{
			"a burst that does not end is given way to for some time",
			append(ticks(8, tick{17, 900}), ticks(24, tick{150, 2000})...),
			strings.Repeat("+", 30) + "--",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := giveWay{most: most}
			now, seq := time.Unix(1000, 0), uint64(5)
			var got strings.Builder
			g.look(now, 300, seq) // the first one only begins
			for _, s := range tt.see {
				now, seq = now.Add(giveWayLook), seq+s.came
				if g.look(now, s.messages, seq) {
					got.WriteByte('+')
				} else {
					got.WriteByte('-')
				}
			}
			require.Equal(t, tt.give, got.String())
		})
	}
}

func TestTheBulkLanesTrickle(t *testing.T) {
	t.Parallel()
	q := newQueue()
	for range 2 {
		for _, l := range []contract.Lane{due, contract.High, contract.Normal, contract.Low} {
			q.put(l, &work{})
		}
	}
	q.trickle(time.Hour)
	var took []contract.Lane
	for w, lane := q.next(); w != nil; w, lane = q.next() {
		took = append(took, lane)
	}
	require.Equal(t, []contract.Lane{due, due, contract.High, contract.High, contract.Normal}, took,
		"one document of the bulk lanes, then a pause; the others as always")
	q.trickle(0)
	require.NoError(t, q.await(t.Context()))
	_, lane := q.next()
	require.Equal(t, contract.Normal, lane)
}
