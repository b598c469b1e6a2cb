package archive

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
)

// overdue is a line on which something of each kind is over its time: views, of which one has
// to stay, inbox and claims, days and a week.
func (l *line) overdue() {
	l.t.Helper()
	until(l.t, "2000-01-31")
	l.several("old", 2)
	until(l.t, "2000-02-01")
	l.several("new", 2)
	until(l.t, "2000-02-08")
	require.NoError(l.t, l.tick())
	until(l.t, "2000-03-01")
	require.NoError(l.t, l.tick())
	until(l.t, "2000-03-10")
	require.Nil(l.t, l.objects.Put(l.t.Context(),
		store.Object{Ref: store.Ref{Bucket: "llm-raw", Key: "_inbox/x"}}, store.Object{Ref: store.Ref{Bucket: "llm-processed", Key: "_claim/x/y"}},
		store.Object{Ref: store.Ref{Bucket: "llm-raw", Key: "by_date/2000-01-31/old-1.json"}, Body: []byte("other")}))
	until(l.t, "2000-03-20")
	r := &l.storage.Retention
	r.Raw, r.Standardized, r.Results, r.Inbox, r.Claims, r.Daily, r.Weekly = "1d", "2d", "30d", "1d", "1d", "1d", "1d"
	l.publish(contract.StageSubject(contract.Enrich, contract.Normal, "job_extraction", "openai"), bus.Header{contract.HeaderFileID: "new-1"})
}

// Invariant: killed at any point and run again it removes the same as if nothing had happened.
func TestARemovalThatIsKilledAnywhereEndsTheSame(t *testing.T) {
	t.Parallel()
	var want []string
	var volumes []string
	onLine(t, func(t *testing.T, l *line) {
		l.overdue()
		require.Len(t, l.keys(), 4*13+2)
		require.NoError(t, l.tick())
		want, volumes = l.keys(), l.volumes()
	})
	require.Len(t, want, 3*6+13+1)
	require.Equal(t, []string{"monthly/2000-01", "monthly/2000-02"}, volumes)
	for _, how := range []*failing{{writes: true}, {writes: true, after: true}, {}} {
		points := int64(0)
		for kill := int64(1); points == 0; kill += 4*how.step() - 3 { // all writes, some reads
			onLine(t, func(t *testing.T, l *line) {
				l.overdue()
				f := &failing{Store: l.objects, from: kill, to: 1 << 40, after: how.after, writes: how.writes}
				h := l.stage(nil, func(d *stage.Deps) {
					d.Store, d.Bus, d.Policy = f, failingBus{l.bus, f}, l.deps().Policy
				})
				_, err := h.Handle(t.Context(), tick())
				if err == nil {
					points = kill
				}
				pass(leaseTTL + time.Second)
				require.NoError(t, l.tick())
				require.Equal(t, want, l.keys(), "killed at call %d, after %v", kill, how.after)
				require.Equal(t, volumes, l.volumes())
				for key := range l.snapshot() {
					require.NotRegexp(t, `^(daily|weekly)/.*zst$`, key)
				}
				l.sound()
			})
		}
		require.Greater(t, points, int64(20), "the test has killed too little")
	}
}

// What one run has no time for the next one does.
func TestARemovalOfManyTakesSeveralRuns(t *testing.T) {
	t.Parallel()
	onLine(t, func(t *testing.T, l *line) {
		l.several("doc", 3*removeObjects/13)
		until(t, "2000-01-02")
		require.NoError(t, l.tick())
		r := &l.storage.Retention
		r.Raw, r.Validated, r.Enriched, r.Standardized, r.Results = "1d", "1d", "1d", "1d", "1d"
		until(t, "2000-01-10")
		s := &tardy{Store: l.objects}
		h := l.stage(nil, func(d *stage.Deps) {
			d.Policy, d.Store, d.Clock = l.deps().Policy, s, func() time.Time { return time.Now().Add(s.took) }
		})
		before := len(l.keys())
		for range 2 {
			_, err := h.Handle(t.Context(), tick())
			require.ErrorIs(t, err, errMore)
			require.Equal(t, fault.Waiting, fault.Of(err).Kind)
			require.Less(t, len(l.keys()), before, "each run gets on")
			before = len(l.keys())
		}
		for range 3 {
			_, err := h.Handle(t.Context(), tick())
			if err == nil {
				break
			}
			require.ErrorIs(t, err, errMore)
		}
		require.Empty(t, l.keys())
		l.sound()
	})
}

// tardy is a store in which removing takes as long as a run may.
type tardy struct {
	store.Store
	took time.Duration
}

// Remove implements store.Store.
func (s *tardy) Remove(ctx context.Context, refs ...store.Ref) []error {
	s.took += 15 * time.Minute
	return s.Store.Remove(ctx, refs...)
}
