package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jobspy/millrace/shared/store"
)

// Found is where the archive holds a document.
type Found struct {
	Placed

	Period Period
}

// Find looks a document up in all volumes: the daily ones first, the newest before the others,
// then those of weeks and months for days that have no volume any more. Error:
// store.ErrNotFound.
func Find(ctx context.Context, s store.Store, fileID string) (Found, error) {
	daily := map[string]bool{}
	for _, kind := range Kinds() {
		periods, err := newestFirst(ctx, s, kind)
		if err != nil {
			return Found{}, err
		}
		for _, p := range periods {
			v, err := Open(ctx, s, p)
			if errors.Is(err, store.ErrNotFound) {
				continue // removed in between
			}
			if err != nil {
				return Found{}, err
			}
			if kind == Daily {
				daily[p.Name] = true
			} else if v.within(daily) {
				continue // all of it has been looked through
			}
			d, ok, err := v.Find(ctx, fileID)
			if err != nil {
				return Found{}, fmt.Errorf("look for %q in %s: %w", fileID, p, err)
			}
			if ok {
				return Found{Placed: d, Period: p}, nil
			}
		}
	}
	return Found{}, fmt.Errorf("look for %q in the archive: %w", fileID, store.ErrNotFound)
}

// newestFirst returns the periods that have a volume.
func newestFirst(ctx context.Context, s store.Store, kind Kind) ([]Period, error) {
	var all []Period
	for p, err := range Periods(ctx, s, kind) {
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	slices.Reverse(all)
	return all, nil
}

// within reports whether all parts of a week or month come from days that have volumes of
// their own.
func (v *Volume) within(daily map[string]bool) bool {
	for i := range v.Manifest.Parts {
		for _, src := range v.Manifest.Parts[i].Sources {
			if p, _, ok := periodOf(src.Key); !ok || !daily[p.Name] {
				return false
			}
		}
	}
	return true
}
