package volume

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/store"
)

func TestEachDayIsCoveredOnce(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		there []string // manifests
		want  func(day Period) bool
		all   map[string]int // days by volume
	}{
		{"nothing is there", nil, nil, map[string]int{}},
		{"a day, its week and its month", []string{"daily/2000-01-03", "weekly/2000-W01", "monthly/2000-01"}, nil, map[string]int{
			"daily/2000-01-03": 1, "weekly/2000-W01": 6, "monthly/2000-01": 31 - 7,
		}},
		{"a week in two months", []string{"weekly/2000-W05", "monthly/2000-01", "monthly/2000-02"}, nil, map[string]int{
			"weekly/2000-W05": 7, "monthly/2000-01": 30, "monthly/2000-02": 23,
		}},
		{
			name: "one day is asked for, and a week has it", there: []string{"daily/2000-01-03", "weekly/2000-W01", "monthly/2000-01"},
			want: func(day Period) bool { return day.Name == "2000-01-04" }, all: map[string]int{"weekly/2000-W01": 1},
		},
		{name: "what is no manifest is no volume", there: []string{"daily/2000-01-03/removed.json", "weekly"}, all: map[string]int{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			within(t, func(t *testing.T, b *bundle) {
				for _, p := range tt.there {
					b.plant(p+"/manifest.json", []byte("{}"))
				}
				if tt.want == nil {
					tt.want = func(Period) bool { return true }
				}
				covers, err := Covers(t.Context(), b.objects, tt.want)
				require.NoError(t, err)
				found := map[string]int{}
				days := map[string]bool{}
				for _, c := range covers {
					found[c.Period.String()] = len(c.Days)
					for _, day := range c.Days {
						require.True(t, c.Contains(day))
						require.False(t, days[day.Name])
						days[day.Name] = true
					}
				}
				require.Equal(t, tt.all, found)
			})
		})
	}
}

func TestALookupFindsEachDocumentOfItsPart(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, b *bundle) {
		b.first() // three in a part without an index
		v, err := Open(t.Context(), b.objects, Day(time.Now()))
		require.NoError(t, err)
		n := 0
		lookup, err := v.Lookup(t.Context(), &v.Manifest.Parts[0])
		require.NoError(t, err)
		for e, err := range v.Entries(t.Context()) {
			require.NoError(t, err)
			require.Equal(t, &v.Manifest.Parts[0], e.Part)
			for range 2 {
				d, ok, err := lookup.Find(t.Context(), e.FileID)
				require.NoError(t, err)
				require.True(t, ok)
				require.Equal(t, e.Seq, d.Seq)
			}
			n++
		}
		require.Equal(t, 3, n)
		_, ok, err := lookup.Find(t.Context(), "nobody")
		require.NoError(t, err)
		require.False(t, ok)
	})
}

// A volume that was removed because its time was over is not missing; one that was lost is.
func TestAVolumeThatWasRemovedIsNotMissing(t *testing.T) {
	t.Parallel()
	for _, noted := range []bool{true, false} {
		within(t, func(t *testing.T, b *bundle) {
			b.first()
			day := Day(time.Now())
			v, err := Open(t.Context(), b.objects, day)
			require.NoError(t, err)
			require.Equal(t, day.Manifest(), v.Objects()[0])
			if noted {
				require.NoError(t, v.WriteRemoved(t.Context(), time.Now()))
			}
			for _, r := range v.Objects() {
				require.NoError(t, b.objects.Delete(t.Context(), r))
			}
			b.state.Touched = nil
			b.write()
			check := Verifier{Store: b.objects, Records: b.bus, States: b.kv}
			all, err := check.Periods(t.Context())
			require.NoError(t, err)
			if noted {
				require.NotContains(t, all, day)
				_, err := check.Verify(t.Context(), day)
				require.ErrorIs(t, err, store.ErrNotFound)
				return
			}
			require.Contains(t, all, day)
			r, err := check.Verify(t.Context(), day)
			require.NoError(t, err)
			require.False(t, r.Sound())
		})
	}
}

func TestARestoreIsNoted(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, b *bundle) {
		day := Day(time.Now())
		at, err := ReadRestored(t.Context(), b.objects, day)
		require.NoError(t, err)
		require.True(t, at.IsZero())
		require.NoError(t, WriteRestored(t.Context(), b.objects, day, time.Now()))
		at, err = ReadRestored(t.Context(), b.objects, day)
		require.NoError(t, err)
		require.True(t, at.Equal(time.Now()))
		b.plant("daily/"+day.Name+"/restored.json", []byte("{"))
		_, err = ReadRestored(t.Context(), b.objects, day)
		require.ErrorContains(t, err, "read the note llm-archive/daily/2000-01-01/restored.json")
	})
}
