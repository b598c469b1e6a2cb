package operate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
)

// parallelStats is how many objects of a document are looked up at the same time.
const parallelStats = 16

// completed takes up a terminal record, from its stream or from the archive.
func (f *finder) completed(r *doc.Record, m *bus.Stored) {
	d := &f.d
	d.State, d.Stage, d.Outcome = Completed, contract.Archive, r.Outcome
	d.Objects, d.Result, d.Sources, d.Timeline = r.Objects, r.Result, r.Sources, r.Timeline
	f.recorded = m.Time
	d.fill(&r.Metadata, m)
}

// longAgo looks for a document that both ledger and stream of records have forgotten: among the
// dead letters, which stay, and in the archive. Where both have it the higher replay count
// counts.
func (f *finder) longAgo(ctx context.Context) (bool, error) {
	dead, err := f.dead(ctx, contract.RootDLQ+".>", time.Time{})
	if err != nil {
		return false, err
	}
	found, ok := f.inArchive(ctx, time.Time{})
	if !ok {
		return dead, nil
	}
	m := &bus.Stored{
		Stream: contract.StreamCompleted, Seq: found.Seq, Time: found.CompletedAt,
		Subject: found.Subject, Header: found.Header, Body: found.Record,
	}
	if dead && doc.FromMessage(m).Replay < f.d.Replays {
		return true, nil
	}
	r, err := found.Decode()
	if err != nil {
		return false, fmt.Errorf("read the record of %s in %s: %w", f.d.FileID, found.Part.Key, err)
	}
	f.d = Document{FileID: f.d.FileID, Archived: archived(&found)}
	f.completed(&r, m)
	return true, nil
}

// inArchive looks the document up in the archive, first on a day if one is known. That the
// archive cannot be asked is noted and no error: the rest is worth telling.
func (f *finder) inArchive(ctx context.Context, day time.Time) (volume.Found, bool) {
	if f.open == nil {
		return volume.Found{}, false
	}
	s, err := f.open(ctx)
	if err == nil && !day.IsZero() {
		p := volume.Day(day)
		v, opened := volume.Open(ctx, s, p)
		if opened == nil {
			if d, ok, err := v.Find(ctx, f.d.FileID); err == nil && ok {
				return volume.Found{Placed: d, Period: p}, true
			}
		}
	}
	var found volume.Found
	if err == nil {
		found, err = volume.Find(ctx, s, f.d.FileID)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		f.d.StoreError = err.Error()
	}
	return found, err == nil
}

// stored finds out which objects of a completed document still exist, and where the archive
// holds it. It goes through the whole archive only for a document that lacks objects.
func (f *finder) stored(ctx context.Context) {
	d := &f.d
	if f.open == nil || d.StoreError != "" {
		return
	}
	s, err := f.open(ctx)
	if err == nil {
		d.Gone, err = gone(ctx, s, d.Objects, d.Result)
	}
	if err != nil {
		d.StoreError = err.Error()
		return
	}
	at := f.recorded
	if at.IsZero() {
		at = d.At
	}
	switch {
	case d.Archived != nil:
	case len(d.Gone) > 0 || f.recorded.IsZero():
		if found, ok := f.inArchive(ctx, at); ok {
			d.Archived = archived(&found)
			f.remembered(ctx, &found)
		}
	default:
		p := volume.Day(at)
		v, err := volume.Open(ctx, s, p)
		if err != nil {
			return // not archived yet, or damaged, which verify tells
		}
		if one, ok, err := v.Find(ctx, d.FileID); err == nil && ok {
			d.Archived = archived(&volume.Found{Placed: one, Period: p})
		}
	}
}

// remembered completes, from the archive, a document whose record has left its stream.
func (f *finder) remembered(ctx context.Context, found *volume.Found) {
	d := &f.d
	if !f.recorded.IsZero() {
		return
	}
	r, err := found.Decode()
	if err != nil {
		return
	}
	d.Outcome, d.Objects, d.Result, d.Sources, d.Timeline = r.Outcome, r.Objects, r.Result, r.Sources, r.Timeline
	s, err := f.open(ctx)
	if err == nil {
		d.Gone, err = gone(ctx, s, d.Objects, d.Result)
	}
	if err != nil {
		d.StoreError = err.Error()
	}
}

// gone returns those objects that do not exist, in their order.
func gone(ctx context.Context, s store.Store, objects []store.Ref, result *store.Ref) ([]store.Ref, error) {
	all := slices.Clip(objects)
	if result != nil {
		all = append(all, *result)
	}
	missing := make([]bool, len(all))
	g, looking := errgroup.WithContext(ctx)
	g.SetLimit(parallelStats)
	for i, r := range all {
		g.Go(func() error {
			_, err := s.Stat(looking, r)
			missing[i] = errors.Is(err, store.ErrNotFound)
			if err != nil && !missing[i] {
				return fmt.Errorf("look up %s: %w", r, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var out []store.Ref
	seen := map[store.Ref]bool{}
	for i, r := range all {
		if missing[i] && !seen[r] {
			out = append(out, r)
		}
		seen[r] = true
	}
	return out, nil
}
