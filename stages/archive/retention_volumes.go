package archive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
)

// volumes removes the volumes that are over their time: days that week and month hold, weeks
// that months hold, and months when their time is over.
func (e *expiry) volumes(ctx context.Context) error {
	if err := e.resume(ctx); err != nil {
		return err
	}
	for _, kind := range volume.Kinds() {
		limit, ok := e.limits[string(kind)]
		if !ok {
			continue
		}
		for _, t := range []time.Time{e.now.Add(-expireEvery), e.now} {
			e.dueAt(periodAt(kind, t).End.Add(limit))
		}
		var due []volume.Period
		for p, err := range volume.Periods(ctx, e.deps.Store, kind) {
			if err != nil {
				return err
			}
			if e.dueAt(p.End.Add(limit)) {
				due = append(due, p)
			}
		}
		for _, p := range due {
			if err := e.volume(ctx, p); err != nil {
				return err
			}
			if e.late() {
				return errMore
			}
		}
	}
	return nil
}

func periodAt(kind volume.Kind, t time.Time) volume.Period {
	switch kind {
	case volume.Weekly:
		return volume.Week(t)
	case volume.Monthly:
		return volume.Month(t)
	default:
		return volume.Day(t)
	}
}

// volume removes a volume whose time is over, unless something keeps it.
func (e *expiry) volume(ctx context.Context, p volume.Period) error {
	x := Expired{Class: string(p.Kind), Period: p.String()}
	v, err := volume.Open(ctx, e.deps.Store, p)
	if damage, damaged := errors.AsType[*volume.DamageError](err); damaged {
		x.Why, x.Failed = damage.Error(), true
		e.told(x)
		return nil
	}
	if err != nil {
		return err
	}
	x.Why, x.Failed, err = e.keeps(ctx, v)
	if err != nil {
		return err
	}
	if x.Why == "" {
		for _, part := range v.Manifest.Parts {
			x.Bytes += part.Bytes
		}
		x.Removed = len(v.Objects())
		if err := e.removeVolume(ctx, v); err != nil {
			return err
		}
	}
	e.told(x)
	return nil
}

// keeps returns what keeps a volume although its time is over, empty where nothing does, and
// whether that is a failure.
func (e *expiry) keeps(ctx context.Context, v *volume.Volume) (why string, failed bool, err error) {
	for _, ref := range v.Objects() {
		if e.held(ref) {
			return "a legal hold is on " + ref.String(), false, nil
		}
	}
	var longer []volume.Period
	switch v.Period.Kind {
	case volume.Daily:
		if still, err := e.recorded(ctx, v.Period); still || err != nil {
			return contract.StreamCompleted + " still has records of then", false, err
		}
		longer = []volume.Period{volume.Week(v.Period.Start), volume.Month(v.Period.Start)}
	case volume.Weekly:
		longer = []volume.Period{volume.Month(v.Period.Start)}
		if last := volume.Month(v.Period.End.Add(-1)); last.Name != longer[0].Name {
			longer = append(longer, last)
		}
	case volume.Monthly:
		return e.shorter(ctx, v.Period)
	}
	return e.heldBy(ctx, v, longer)
}

// recorded reports whether the stream of records reaches back to a period: were the archive's
// state lost, it would be archived from there again.
func (e *expiry) recorded(ctx context.Context, p volume.Period) (bool, error) {
	for {
		info, err := e.deps.Bus.Info(ctx, contract.StreamCompleted)
		if err != nil || info.Messages == 0 {
			return false, err
		}
		first, err := e.deps.Bus.Get(ctx, contract.StreamCompleted, info.FirstSeq)
		if errors.Is(err, bus.ErrNotFound) {
			continue // it has just left
		}
		return err == nil && first.Time.Before(p.End), err
	}
}

// shorter returns which volumes of a month's days and weeks are to go before it.
func (e *expiry) shorter(ctx context.Context, month volume.Period) (why string, failed bool, err error) {
	for _, day := range month.Days() {
		for _, p := range []volume.Period{day, volume.Week(day.Start)} {
			if _, goes := e.limits[string(p.Kind)]; !goes {
				continue
			}
			_, err := e.deps.Store.Stat(ctx, p.Manifest())
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			return p.String() + " goes first", false, err
		}
	}
	return "", false, nil
}

// heldBy returns what is missing for longer volumes to hold all of v between them: a day is in
// its week and its month whole, each daily part of a week in the month of its day.
func (e *expiry) heldBy(ctx context.Context, v *volume.Volume, longer []volume.Period) (why string, failed bool, err error) {
	sources := map[string]map[string]string{} // of each longer volume, by key
	for _, p := range longer {
		if e.pending(p) {
			return p.String() + " is not up to date", false, nil
		}
		l, err := volume.Open(ctx, e.deps.Store, p)
		if errors.Is(err, store.ErrNotFound) {
			continue // where it would have to hold something, that is missing below
		}
		if err != nil {
			return err.Error(), true, onlyOutage(err)
		}
		if wrong, err := e.verified(ctx, p); wrong != "" || err != nil {
			return fmt.Sprintf("%s is not verified: %s", p, wrong), true, err
		}
		sources[p.String()] = sourcesOf(l)
	}
	if v.Period.Kind == volume.Daily {
		for _, part := range v.Manifest.Parts {
			for _, p := range longer {
				if sources[p.String()][part.Key] != part.SHA256 {
					return fmt.Sprintf("%s does not hold %s", p, part.Key), true, nil
				}
			}
		}
		return "", false, nil
	}
	held := map[string]string{}
	for _, p := range longer {
		maps.Copy(held, sources[p.String()])
	}
	for key, sum := range sourcesOf(v) {
		if held[key] != sum {
			return "no month holds " + key, true, nil
		}
	}
	return "", false, nil
}

// onlyOutage returns err unless it says that something is damaged.
func onlyOutage(err error) error {
	if _, damaged := errors.AsType[*volume.DamageError](err); damaged {
		return nil
	}
	return err
}

// sourcesOf returns the daily parts of which a volume is made, with their checksums.
func sourcesOf(v *volume.Volume) map[string]string {
	all := map[string]string{}
	for i := range v.Manifest.Parts {
		for _, s := range v.Manifest.Parts[i].Sources {
			all[s.Key] = s.SHA256
		}
	}
	return all
}

// pending reports whether a week or month may lack daily parts.
func (e *expiry) pending(p volume.Period) bool {
	for _, t := range e.run.state.Pending() {
		if t.String() == p.String() {
			return true
		}
	}
	return false
}

// removeVolume removes the objects of a volume, the manifest first. That it was begun is
// written down before, so that nothing of it is left behind.
func (e *expiry) removeVolume(ctx context.Context, v *volume.Volume) error {
	if e.DryRun {
		return nil
	}
	manifest, err := e.deps.Store.Get(ctx, v.Period.Manifest())
	if err != nil {
		return err
	}
	if err := v.WriteRemoved(ctx, e.now); err != nil {
		return err
	}
	e.state.Removing = removing{Volume: v.Period.String(), Manifest: doc.Sum(manifest.Body)}
	for _, ref := range v.Objects() {
		e.state.Removing.Keys = append(e.state.Removing.Keys, ref.Key)
	}
	if err := e.writeState(ctx); err != nil {
		return err
	}
	return e.resume(ctx)
}

// resume ends the removal of a volume that was begun, unless the volume was laid under a hold
// since, or has more parts.
func (e *expiry) resume(ctx context.Context) error {
	if e.DryRun || len(e.state.Removing.Keys) == 0 {
		return nil
	}
	var refs []store.Ref
	for _, key := range e.state.Removing.Keys {
		ref := store.Ref{Bucket: contract.BucketArchive, Key: key}
		if e.held(ref) {
			return nil
		}
		refs = append(refs, ref)
	}
	manifest, err := e.deps.Store.Get(ctx, refs[0])
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return err
	case doc.Sum(manifest.Body) != e.state.Removing.Manifest:
		refs = nil
	default:
		if err := e.remove(ctx, refs[:1]); err != nil {
			return err
		}
	}
	if len(refs) > 0 {
		if err := e.remove(ctx, refs[1:]); err != nil {
			return err
		}
	}
	e.state.Removing = removing{}
	return e.writeState(ctx)
}
