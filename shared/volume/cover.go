package volume

import (
	"context"

	"github.com/jobspy/millrace/shared/store"
)

// Cover is a volume and those days whose documents are to be looked for in it.
type Cover struct {
	Period Period
	Days   []Period // in their order
}

// Covers returns the volumes that hold the documents of the days which want selects, each day
// in one of them: its own, else that of its week, else that of its month. They are in the
// order of kinds, then of time. Days of weeks and months may be without documents.
func Covers(ctx context.Context, s store.Store, want func(day Period) bool) ([]Cover, error) {
	var all []Cover
	taken := map[string]bool{}
	for _, kind := range Kinds() {
		for p, err := range Periods(ctx, s, kind) {
			if err != nil {
				return nil, err
			}
			c := Cover{Period: p}
			for _, day := range p.Days() {
				if !taken[day.Name] && want(day) {
					c.Days = append(c.Days, day)
				}
				taken[day.Name] = true
			}
			if len(c.Days) > 0 {
				all = append(all, c)
			}
		}
	}
	return all, nil
}

// Contains reports whether the volume is where a document that completed on day is looked for.
func (c *Cover) Contains(day Period) bool {
	for _, d := range c.Days {
		if d.Name == day.Name {
			return true
		}
	}
	return false
}
