package chaos_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/deploy/millrace/chaos"
)

func TestTheSameSeedGivesTheSameSchedule(t *testing.T) {
	t.Parallel()
	p := chaos.Plan{Seed: 7, For: time.Hour, Topology: chaos.Stages, Disks: true}
	first := chaos.Schedule(p)
	require.Equal(t, first, chaos.Schedule(p))
	require.Greater(t, len(first), 200, "an hour is enough for two hundred faults")
	p.Seed = 8
	require.NotEqual(t, first, chaos.Schedule(p))
}

func TestAScheduleKeepsToItsPlan(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		plan chaos.Plan
		has  []chaos.Kind
		not  []chaos.Kind
	}{
		{
			"one process has no connections to cut", chaos.Plan{Topology: chaos.Up, Disks: true},
			[]chaos.Kind{chaos.KillLine, chaos.KillAtPoint}, []chaos.Kind{chaos.BrokerReset, chaos.KillStage, chaos.StoreFull},
		},
		{
			"disks that cannot be filled are not", chaos.Plan{Topology: chaos.Stages},
			[]chaos.Kind{chaos.KillStage, chaos.Poison, chaos.StoreTruncated}, []chaos.Kind{chaos.StoreFull, chaos.BrokerFull},
		},
		{
			"only what is asked for is drawn", chaos.Plan{Topology: chaos.Stages, Only: []chaos.Kind{chaos.KillStore}},
			[]chaos.Kind{chaos.KillStore}, []chaos.Kind{chaos.KillStage},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.plan.Seed, tt.plan.For = 1, 2*time.Hour
			events := chaos.Schedule(tt.plan)
			for _, e := range events {
				require.Less(t, e.At, tt.plan.For)
				require.Positive(t, e.For)
			}
			is := func(k chaos.Kind) bool {
				return slices.ContainsFunc(events, func(e chaos.Event) bool { return e.Kind == k })
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
