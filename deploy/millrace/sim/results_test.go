package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
)

// outcome is what is looked at of a result object.
type outcome struct {
	Jobs []struct {
		JobID      string `json:"job_id"`
		Source     string `json:"source"`
		Identifier string `json:"identifier"`
	} `json:"jobs"`
	Enrichments []said `json:"enrichments"`
	Verdicts    []said `json:"verdicts"`
	Change      *struct {
		Target doc.Target `json:"target"`
	} `json:"change"`
}

type said struct {
	FileID string `json:"file_id"`
}

func (w *world) result(ctx context.Context, ref store.Ref) (outcome, error) {
	var r outcome
	o, err := w.store.Get(ctx, ref)
	if err != nil {
		return r, err
	}
	return r, codec.Unmarshal(o.Body, &r)
}

func (w *world) noDuplicates(ctx context.Context, ends map[string][]end) error {
	for id, all := range ends {
		e := last(all)
		if e.record == nil || e.record.Result == nil {
			continue
		}
		r, err := w.result(ctx, *e.record.Result)
		if err != nil {
			return err
		}
		seen := map[string]bool{}
		for _, j := range r.Jobs {
			keys := []string{j.JobID}
			if j.Source != "" {
				keys = append(keys, j.Source+"\n"+j.Identifier)
			}
			for _, key := range keys {
				if seen[key] {
					return fmt.Errorf("the result of %s has %q twice", id, key)
				}
				seen[key] = true
			}
		}
	}
	return nil
}

func (w *world) mergedStands(ctx context.Context, ends map[string][]end) error {
	for id, all := range ends {
		e := last(all)
		if e.record == nil || e.record.Result == nil {
			continue
		}
		own, err := w.result(ctx, *e.record.Result)
		if err != nil {
			return err
		}
		if own.Change == nil {
			continue
		}
		about := ends[own.Change.Target.FileID]
		if len(about) == 0 || last(about).record == nil {
			return fmt.Errorf("%s is merged into %s, which has %v", id, own.Change.Target.FileID, about)
		}
		r, err := w.result(ctx, *last(about).record.Result)
		if err != nil {
			return err
		}
		if !slices.Contains(append(r.Enrichments, r.Verdicts...), said{id}) {
			return fmt.Errorf("%s is not in the result of %s", id, own.Change.Target.FileID)
		}
	}
	return nil
}

// archivedOnce looks into the days that are archived.
func (w *world) archivedOnce(ctx context.Context, ends map[string][]end) error {
	if !w.midnight {
		return nil
	}
	archived := map[uint64]bool{}
	for p, err := range volume.Periods(ctx, w.store, volume.Daily) {
		if err != nil {
			return err
		}
		v, err := volume.Open(ctx, w.store, p)
		if err != nil {
			return err
		}
		for d, err := range v.Documents(ctx) {
			if err != nil {
				return err
			}
			if archived[d.Seq] {
				return fmt.Errorf("record %d is in %s twice", d.Seq, p)
			}
			archived[d.Seq] = true
		}
	}
	midnight := w.began.Truncate(24*time.Hour).AddDate(0, 0, 1)
	for id, all := range ends {
		for _, e := range all {
			if e.record != nil && e.Time.Before(midnight) && !archived[e.Seq] {
				return fmt.Errorf("record %d of %s is in no archive", e.Seq, id)
			}
		}
	}
	return nil
}
