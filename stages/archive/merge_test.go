package archive

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/volume"
)

// until lets time go by to a day of the bubble, at two minutes past midnight and a bit, when
// the day before is over.
func until(t *testing.T, day string) {
	t.Helper()
	at, err := time.Parse(time.DateOnly, day)
	require.NoError(t, err)
	pass(time.Until(at.Add(dayGrace + time.Second)))
}

// sound verifies every volume that is there or must be.
func (b *bundle) sound() {
	b.t.Helper()
	kv, err := b.bus.KV(b.t.Context(), contract.KVJoin)
	require.NoError(b.t, err)
	v := volume.Verifier{Store: b.objects, Records: b.bus, States: kv}
	all, err := v.Periods(b.t.Context())
	require.NoError(b.t, err)
	for _, p := range all {
		r, err := v.Verify(b.t.Context(), p)
		require.NoError(b.t, err)
		require.Empty(b.t, r.Problems, p.String())
	}
}

func (b *bundle) documents(kind volume.Kind, name string) int {
	b.t.Helper()
	m, _ := b.volume(kind, name)
	return m.Documents
}

func TestWeeksAndMonthsFollowWhenTheyAreOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		until(t, "2000-12-28") // a Thursday of the last ISO week of its year
		for day := range 6 {
			b.several(fmt.Sprintf("day%d", day), 2)
			require.NoError(t, b.archive(nil))
			pass(oneDay)
			require.NoError(t, b.archive(nil))
			switch day {
			case 2:
				b.none(volume.Weekly, "2000-W52")
				b.none(volume.Monthly, "2000-12")
			case 3: // it is Monday, the first of January
				require.Equal(t, 8, b.documents(volume.Weekly, "2000-W52"))
				require.Equal(t, 8, b.documents(volume.Monthly, "2000-12"))
			}
		}
		b.none(volume.Weekly, "2001-W01")
		b.none(volume.Monthly, "2001-01")
		until(t, "2001-01-08")
		require.NoError(t, b.archive(nil))
		require.Equal(t, 4, b.documents(volume.Weekly, "2001-W01"))
		b.none(volume.Monthly, "2001-01")
		b.sound()
	})
}

func TestAWeekMayLieInTwoYears(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		until(t, "2004-12-31") // a Friday of 2004-W53
		b.several("old", 3)
		pass(oneDay)
		b.several("new", 2)
		until(t, "2005-01-03")
		require.NoError(t, b.archive(nil))
		require.Equal(t, 5, b.documents(volume.Weekly, "2004-W53"))
		require.Equal(t, 3, b.documents(volume.Monthly, "2004-12"))
		b.none(volume.Monthly, "2005-01")
		b.sound()
	})
}

func TestWeeksOfDowntimeAreCaughtUpInOneRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		for day := range 45 {
			if day%7 != 3 {
				b.several(fmt.Sprintf("day%d", day), 1)
			}
			pass(oneDay)
		}
		require.NoError(t, b.archive(nil))
		n := 0
		for p, err := range volume.Periods(t.Context(), b.objects, volume.Daily) {
			require.NoError(t, err)
			n += b.documents(volume.Daily, p.Name)
		}
		require.Equal(t, 38, n, "all but the day that may not be over: %s", time.Now())
		require.Equal(t, 27, b.documents(volume.Monthly, "2000-01"))
		require.Equal(t, 6, b.documents(volume.Weekly, "2000-W05"))
		b.sound()
		before := b.snapshot()
		require.NoError(t, b.archive(nil))
		require.Equal(t, before, b.snapshot())
	})
}

func TestALateDailyPartAmendsWeekAndMonth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.several("doc", 2)
		until(t, "2000-02-01")
		require.NoError(t, b.archive(nil))
		require.Equal(t, 2, b.documents(volume.Monthly, "2000-01"))
		// A broker whose clock was behind gives a record of a day that is long over.
		m, err := b.bus.Get(t.Context(), contract.StreamCompleted, 1)
		require.NoError(t, err)
		late := *m
		late.Seq, late.Time = 3, m.Time.Add(5*time.Second)
		h := b.stage(nil, nil).(*archiver) //nolint:forcetypeassert // it is one
		h.deps.Bus = lateBus{b.bus, &late}
		_, err = h.Handle(t.Context(), tick())
		require.NoError(t, err)
		for kind, name := range map[volume.Kind]string{volume.Daily: "2000-01-01", volume.Weekly: "1999-W52", volume.Monthly: "2000-01"} {
			m, docs := b.volume(kind, name)
			require.Len(t, m.Parts, 2)
			require.Len(t, docs, 3)
		}
	})
}

func TestAStreamThatBeganAnewIsArchivedFromItsBeginning(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]bool{"the state is still there": true, "the state is gone too": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := setup(t)
				b.several("old", 2)
				b.now()
				fresh := setup(t)
				fresh.objects = b.objects
				if keep {
					carry(t, b, fresh)
				}
				pass(time.Second)
				fresh.several("new", 5) // more than there were: their number says nothing
				require.Equal(t, 5, fresh.now().Documents)
				m, docs := fresh.volume(volume.Daily, "2000-01-01")
				require.Len(t, docs, 7)
				require.Equal(t, 1, m.Parts[1].Epoch)
				fresh.sound()
			})
		})
	}
}

// carry copies the archive's state.
func carry(t *testing.T, from, to *bundle) {
	t.Helper()
	kv, err := from.bus.KV(t.Context(), contract.KVJoin)
	require.NoError(t, err)
	e, err := kv.Get(t.Context(), volume.KeyState)
	require.NoError(t, err)
	kv, err = to.bus.KV(t.Context(), contract.KVJoin)
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), volume.KeyState, e.Value, 0)
	require.NoError(t, err)
}

func TestAStateThatWasLostIsMadeAnewFromTheVolumes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.several("doc", 3)
		pass(oneDay)
		b.several("next", 1)
		require.NoError(t, b.archive(nil))
		before := b.snapshot()
		kv, err := b.bus.KV(t.Context(), contract.KVJoin)
		require.NoError(t, err)
		require.NoError(t, kv.Delete(t.Context(), volume.KeyState))
		require.NoError(t, b.archive(nil))
		require.Equal(t, before, b.snapshot())
		until(t, "2000-02-01")
		require.NoError(t, b.archive(nil))
		require.Equal(t, 4, b.documents(volume.Monthly, "2000-01"))
		b.sound()
	})
}

func TestADamagedDayKeepsNoOtherFromBeingMerged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.several("doc", 3)
		b.now()
		o, err := b.objects.Get(t.Context(), period(t, volume.Daily, "2000-01-01").Manifest())
		require.NoError(t, err)
		o.Body[20] ^= 1
		require.Nil(t, b.objects.Put(t.Context(), *o))
		until(t, "2000-01-08")
		b.several("next", 1)
		until(t, "2000-02-01")
		require.NoError(t, b.archive(nil))
		b.none(volume.Weekly, "1999-W52")
		require.Equal(t, 1, b.documents(volume.Weekly, "2000-W01"))
		o.Body[20] ^= 1
		require.Nil(t, b.objects.Put(t.Context(), *o))
		require.NoError(t, b.archive(nil))
		require.Equal(t, 3, b.documents(volume.Weekly, "1999-W52"))
		b.sound()
	})
}

// lateBus is a bus whose stream of records has one more.
type lateBus struct {
	bus.Bus
	late *bus.Stored
}
