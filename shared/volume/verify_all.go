package volume

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jobspy/millrace/shared/contract"
)

// Periods returns every period that has a volume or must have one: days whose records are said
// to be archived, and weeks and months of days that are, but for those that were removed
// because their time was over. They are in the order of kinds, then
// of time.
func (v Verifier) Periods(ctx context.Context) ([]Period, error) {
	found := map[string]Period{}
	for _, kind := range Kinds() {
		for p, err := range Periods(ctx, v.Store, kind) {
			if err != nil {
				return nil, err
			}
			found[p.String()] = p
		}
	}
	if v.Records != nil && v.States != nil {
		there := maps.Clone(found)
		if err := v.expected(ctx, found); err != nil {
			return nil, err
		}
		for name, p := range found {
			if _, ok := there[name]; ok {
				continue
			}
			if gone, err := wasRemoved(ctx, v.Store, p); err != nil {
				return nil, err
			} else if gone {
				delete(found, name)
			}
		}
	}
	var all []Period
	for _, kind := range Kinds() {
		var some []Period
		for _, p := range found {
			if p.Kind == kind {
				some = append(some, p)
			}
		}
		slices.SortFunc(some, func(a, b Period) int { return strings.Compare(a.Name, b.Name) })
		all = append(all, some...)
	}
	return all, nil
}

// expected adds the periods that must have a volume.
func (v Verifier) expected(ctx context.Context, found map[string]Period) error {
	s, _, err := ReadState(ctx, v.States)
	if err != nil {
		return err
	}
	info, err := v.Records.Info(ctx, contract.StreamCompleted)
	if err != nil {
		return fmt.Errorf("look up the records: %w", err)
	}
	for seq := info.FirstSeq; seq > 0 && seq <= min(s.LastSeq, info.LastSeq); {
		day, ok := Period{}, false
		for m, err := range v.Records.Scan(ctx, contract.StreamCompleted, "", seq) {
			if err != nil {
				return fmt.Errorf("look up the days of the records: %w", err)
			}
			day, ok = Day(m.Time), m.Seq <= s.LastSeq
			break
		}
		if !ok {
			break
		}
		found[day.String()] = day
		next, err := v.Records.SeqAt(ctx, contract.StreamCompleted, day.End)
		if err != nil {
			return fmt.Errorf("look up the days of the records: %w", err)
		}
		seq = max(next, seq+1)
	}
	if !s.Known {
		return nil
	}
	waiting := map[string]bool{}
	for _, t := range s.Touched {
		waiting[t] = true
	}
	for _, p := range found {
		if p.Kind != Daily {
			continue
		}
		for _, longer := range []Period{Week(p.Start), Month(p.Start)} {
			if !waiting[longer.String()] {
				found[longer.String()] = longer
			}
		}
	}
	return nil
}
