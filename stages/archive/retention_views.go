package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
)

// The bounds of what is looked at and removed at one time.
const (
	removeObjects = 1000
	removeBytes   = 32 << 20
)

// views removes the hot views that are over their time, a volume after the other.
func (e *expiry) views(ctx context.Context) error {
	least := time.Duration(0)
	for _, class := range viewClasses() {
		if d, ok := e.limits[class]; ok && (least == 0 || d < least) {
			least = d
		}
	}
	if least == 0 {
		return nil
	}
	for _, t := range []time.Time{e.now.Add(-expireEvery), e.now} { // their volumes may not be there yet
		e.dueAt(volume.Day(t).End.Add(least))
	}
	covers, err := volume.Covers(ctx, e.deps.Store, func(day volume.Period) bool { return e.dueAt(day.End.Add(least)) })
	if err != nil {
		return err
	}
	for i := range covers {
		if err := e.cover(ctx, &covers[i]); err != nil {
			return err
		}
		if e.late() {
			return errMore
		}
	}
	return nil
}

// walk is one way through a volume.
type walk struct {
	*expiry
	volume *volume.Volume
	days   map[string]*walkDay

	batch  []candidate
	bytes  int64
	report map[dayClass]*Expired
}

// walkDay is a day of the volume that has something due.
type walkDay struct {
	day   volume.Period
	since time.Time       // from when limits count
	due   map[string]bool // by class
	note  dayNote
}

// dayClass is a class of a day.
type dayClass struct{ day, class string }

// candidate is an object that is to be removed unless something keeps it.
type candidate struct {
	store.Object
	dayClass
	fileID string
	exact  bool
}

// cover goes through a volume where some class of some of its days is due.
func (e *expiry) cover(ctx context.Context, c *volume.Cover) error {
	v, err := volume.Open(ctx, e.deps.Store, c.Period)
	if _, damaged := errors.AsType[*volume.DamageError](err); damaged {
		e.told(Expired{Class: string(c.Period.Kind), Period: c.Period.String(), Why: "not verified: " + err.Error(), Failed: true})
		return nil
	}
	if err != nil {
		return err
	}
	w := &walk{expiry: e, volume: v, days: map[string]*walkDay{}, report: map[dayClass]*Expired{}}
	for _, day := range c.Days {
		if err := w.day(ctx, day); err != nil {
			return err
		}
	}
	if len(w.days) == 0 {
		return nil
	}
	wrong, err := e.verified(ctx, c.Period)
	if err != nil {
		return err
	}
	if wrong == "" {
		err = w.through(ctx)
	} else {
		for _, x := range w.report {
			x.Why, x.Failed = "not verified: "+wrong, true
		}
	}
	if err != nil {
		return err
	}
	return w.finish(ctx, wrong == "")
}

// day finds out which classes of a day are due.
func (w *walk) day(ctx context.Context, day volume.Period) error {
	note, err := readDay(ctx, w.deps.Store, day)
	if err != nil {
		return err
	}
	since, err := volume.ReadRestored(ctx, w.deps.Store, day)
	if err != nil {
		return err
	}
	if since.Before(day.End) {
		since = day.End
	}
	d := &walkDay{day: day, since: since, due: map[string]bool{}, note: note}
	for _, class := range viewClasses() {
		limit, ok := w.limits[class]
		if !ok || !w.dueAt(since.Add(limit)) || note.Classes[class].over(w.expiry, since, w.volume) {
			continue
		}
		d.due[class] = true
		w.report[dayClass{day.Name, class}] = &Expired{Class: class, Period: day.Name, Volume: w.volume.Period.String()}
	}
	if len(d.due) > 0 {
		w.days[day.Name] = d
	}
	return nil
}

// through goes through the documents.
func (w *walk) through(ctx context.Context) error {
	for d, err := range w.volume.Documents(ctx) {
		if err != nil {
			return err
		}
		day := w.days[volume.Day(d.CompletedAt).Name]
		if day == nil {
			continue
		}
		fileID := d.Header[contract.HeaderFileID]
		if r, err := d.Decode(); err == nil && r.Metadata.FileID != "" {
			fileID = r.Metadata.FileID
		}
		for _, o := range d.Stored() {
			class := classOf(o.Ref, w.deps.Names)
			if !day.due[class] {
				continue
			}
			w.batch = append(w.batch, candidate{o, dayClass{day.day.Name, class}, fileID, d.Exact})
			w.bytes += int64(len(o.Body))
		}
		if len(w.batch) >= removeObjects || w.bytes >= removeBytes {
			if err := w.flush(ctx); err != nil {
				return err
			}
			if w.late() {
				return errMore
			}
		}
	}
	return w.flush(ctx)
}

// found says what is there under the name of a candidate.
type found int

const (
	foundNothing found = iota
	foundSame
	foundOther
)

// flush removes the batch, but for what has to stay.
func (w *walk) flush(ctx context.Context) error {
	if len(w.batch) == 0 {
		return nil
	}
	there := make([]found, len(w.batch))
	g, looking := errgroup.WithContext(ctx)
	g.SetLimit(parallelReads)
	for i := range w.batch {
		g.Go(func() (err error) {
			there[i], err = w.compare(looking, &w.batch[i])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := w.queues.refresh(ctx); err != nil { // last: what comes after it finds no object and makes it again
		return err
	}
	var refs []store.Ref
	for i := range w.batch {
		c, x := &w.batch[i], w.report[w.batch[i].dayClass]
		switch {
		case there[i] == foundNothing:
		case w.held(c.Ref):
			x.Kept.Held++
		case w.queues.names(c.Ref) || w.queues.has(c.fileID):
			x.Kept.Named++
		case !c.exact:
			x.Kept.Inexact++
		case there[i] == foundOther:
			x.Kept.Changed++
		default:
			refs = append(refs, c.Ref)
			x.Removed++
			x.Bytes += int64(len(c.Body))
		}
	}
	w.batch, w.bytes = w.batch[:0], 0
	return w.remove(ctx, refs)
}

// compare reads what is there: nothing less proves that it is what the archive holds.
func (w *walk) compare(ctx context.Context, c *candidate) (found, error) {
	have, err := w.deps.Store.Get(ctx, c.Ref)
	if errors.Is(err, store.ErrNotFound) {
		return foundNothing, nil
	}
	if err != nil {
		return foundOther, fmt.Errorf("compare with the archive: %w", err)
	}
	if !bytes.Equal(have.Body, c.Body) || have.ContentType != c.ContentType || !maps.Equal(have.Meta, c.Meta) {
		return foundOther, nil
	}
	return foundSame, nil
}

// remove removes objects while the lease is held.
func (e *expiry) remove(ctx context.Context, refs []store.Ref) error {
	if e.DryRun || len(refs) == 0 {
		return nil
	}
	if err := e.lease.hold(ctx); err != nil {
		return err
	}
	return errors.Join(e.deps.Store.Remove(ctx, refs...)...)
}

// finish writes down what was done for each day and reports it.
func (w *walk) finish(ctx context.Context, done bool) error {
	for _, name := range slices.Sorted(maps.Keys(w.days)) {
		d := w.days[name]
		for _, class := range viewClasses() {
			x := w.report[dayClass{name, class}]
			if x == nil {
				continue
			}
			d.note.Classes[class] = classNote{
				Since: d.since, Volume: w.volume.Period.String(), Manifest: w.volume.Manifest.SHA256, At: w.now,
				Removed: d.note.Classes[class].Removed + x.Removed, Kept: x.Kept, Hold: holdDigest(w.deps.Storage()),
			}
			w.told(*x)
		}
		if !done || w.DryRun {
			continue
		}
		if err := volume.WriteNote(ctx, w.deps.Store, d.day.Note(noteName), d.note); err != nil {
			return err
		}
	}
	return nil
}
