package chaos

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheSameSeedGivesTheSameSchedule(t *testing.T) {
	t.Parallel()
	p := Plan{Seed: 7, For: time.Hour, Topology: Stages, Disks: true}
	first := Schedule(p)
	require.Equal(t, first, Schedule(p))
	require.Greater(t, len(first), 200, "an hour is enough for two hundred faults")
	p.Seed = 8
	require.NotEqual(t, first, Schedule(p))
}

func TestAScheduleKeepsToItsPlan(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		plan Plan
		has  []Kind
		not  []Kind
	}{
		{
			"one process has no connections to cut",
			Plan{Topology: Up, Disks: true},
			[]Kind{KillLine, KillAtPoint},
			[]Kind{BrokerReset, KillStage, StoreFull},
		},
		{
			"a release before that is not there does not run",
			Plan{Topology: Stages},
			[]Kind{Shuffled, Repeated},
			[]Kind{Before},
		},
		{
			"a release before runs beside",
			Plan{Topology: Stages, Earlier: true},
			[]Kind{Before},
			nil,
		},
		{
			"disks that cannot be filled are not",
			Plan{Topology: Stages},
			[]Kind{KillStage, Poison, StoreTruncated},
			[]Kind{StoreFull, BrokerFull},
		},
		{
			"only what is asked for is drawn",
			Plan{Topology: Stages, Only: []Kind{KillStore}},
			[]Kind{KillStore},
			[]Kind{KillStage},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.plan.Seed, tt.plan.For = 1, 2*time.Hour
			events := Schedule(tt.plan)
			for _, e := range events {
				require.Less(t, e.At, tt.plan.For)
				require.Positive(t, e.For)
			}
			is := func(k Kind) bool {
				return slices.ContainsFunc(events, func(e Event) bool { return e.Kind == k })
			}
			for _, k := range tt.has {
				require.True(t, is(k), "%s", k)
			}
			for _, k := range tt.not {
				require.False(t, is(k), "%s", k)
			}
		})
	}
}
