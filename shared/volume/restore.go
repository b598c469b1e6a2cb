package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/store"
)

// The bounds of what Restore has in hand at one time.
const (
	restoreObjects  = 512
	restoreBytes    = 32 << 20
	restoreParallel = 16 // objects looked up at the same time
)

// Restore writes the objects of a volume's documents back to where they were. What is there
// with other bytes is left as it is: a conflict.
type Restore struct {
	Store  store.Store
	FileID string // only this document; empty means all
	// Within takes only documents that completed then; the zero Period takes all.
	Within Period
	DryRun bool // nothing is written, only counted
	// Conflict is called for each object that is there and is another; nil is allowed.
	Conflict func(store.Ref)
	// Progress is called now and then; nil is allowed.
	Progress func(Restored)
}

// Restored counts what Restore did, or in a dry run would do.
type Restored struct {
	Documents int   `json:"documents"`
	Written   int   `json:"written"`   // objects
	Bytes     int64 `json:"bytes"`     // of those
	Same      int   `json:"same"`      // objects that were there as they are in the archive
	Conflicts int   `json:"conflicts"` // objects that were there and are others
	Absent    int   `json:"absent"`    // objects that were gone already when their document was archived
	Inexact   int   `json:"inexact"`   // documents in lines of version 1: their objects have no metadata
}

// restoring is one run.
type restoring struct {
	Restore

	done    Restored
	batch   []store.Object
	exact   []bool // of each in batch
	bytes   int64
	several map[string]bool // documents with more than one record
}

// Run restores from one volume. Error: store.ErrNotFound where the volume does not exist or
// does not hold the document.
func (r Restore) Run(ctx context.Context, p Period) (Restored, error) {
	v, err := Open(ctx, r.Store, p)
	if err != nil {
		return Restored{}, err
	}
	g := restoring{Restore: r, several: map[string]bool{}}
	err = g.run(ctx, v)
	if err == nil && r.FileID != "" && g.done.Documents == 0 {
		err = fmt.Errorf("%s in %s: %w", r.FileID, p, store.ErrNotFound)
	}
	if err != nil {
		err = fmt.Errorf("restore %s: %w", p, err)
	}
	return g.done, err
}

func (g *restoring) run(ctx context.Context, v *Volume) error {
	if err := g.count(ctx, v); err != nil {
		return err
	}
	if g.FileID != "" {
		if err := g.newest(ctx, v, g.FileID); err != nil {
			return err
		}
		return g.flush(ctx)
	}
	for d, err := range v.Documents(ctx) {
		if err != nil {
			return err
		}
		if g.several[d.entry().FileID] || !g.wanted(d.Document) {
			continue
		}
		if err := g.take(ctx, d.Document, d.Stored()); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(g.several)) {
		if err := g.newest(ctx, v, id); err != nil {
			return err
		}
	}
	return g.flush(ctx)
}

func (g *restoring) wanted(d *Document) bool {
	return g.Within.Name == "" || g.Within.Contains(d.CompletedAt)
}

// newest takes a document that may have several records: where they name the same object, the
// newest counts.
func (g *restoring) newest(ctx context.Context, v *Volume, fileID string) error {
	var all []*Document
	for d, err := range v.all(ctx, fileID) {
		if err != nil {
			return err
		}
		if g.wanted(d.Document) {
			all = append(all, d.Document)
		}
	}
	slices.SortStableFunc(all, func(a, b *Document) int { return b.CompletedAt.Compare(a.CompletedAt) })
	had := map[store.Ref]bool{}
	for _, d := range all {
		var left []store.Object
		for _, o := range d.Stored() {
			if !had[o.Ref] {
				left = append(left, o)
			}
			had[o.Ref] = true
		}
		if err := g.take(ctx, d, left); err != nil {
			return err
		}
	}
	return nil
}

// count finds the documents with several records, whose objects are those of the newest.
func (g *restoring) count(ctx context.Context, v *Volume) error {
	once := map[string]bool{}
	for i := range v.Manifest.Parts {
		x, err := v.fullIndex(ctx, &v.Manifest.Parts[i])
		if err != nil {
			return err
		}
		for j := range x.Documents {
			id := x.Documents[j].FileID
			if once[id] {
				g.several[id] = true
			}
			once[id] = true
		}
	}
	return nil
}

// all yields every record of one document, in the order of parts.
func (v *Volume) all(ctx context.Context, fileID string) iter.Seq2[Placed, error] {
	return func(yield func(Placed, error) bool) {
		for i := range v.Manifest.Parts {
			p := &v.Manifest.Parts[i]
			l, err := v.Lookup(ctx, p)
			if err != nil {
				yield(Placed{}, err)
				return
			}
			for _, e := range l.index.find(fileID) {
				if d, err := l.read(ctx, e); !yield(d, err) || err != nil {
					return
				}
			}
		}
	}
}

// take puts objects of a document into the batch.
func (g *restoring) take(ctx context.Context, d *Document, objects []store.Object) error {
	g.done.Documents++
	g.done.Absent += len(d.Missing)
	if !d.Exact {
		g.done.Inexact++
	}
	for _, o := range objects {
		g.bytes += int64(len(o.Body))
		g.batch = append(g.batch, o)
		g.exact = append(g.exact, d.Exact)
	}
	if len(g.batch) >= restoreObjects || g.bytes >= restoreBytes {
		return g.flush(ctx)
	}
	return nil
}

// verdict says what becomes of an object.
type verdict int

const (
	absent verdict = iota
	same
	other
)

// flush restores the batch.
func (g *restoring) flush(ctx context.Context) error {
	found := make([]verdict, len(g.batch))
	e, looking := errgroup.WithContext(ctx)
	e.SetLimit(restoreParallel)
	for i, o := range g.batch {
		e.Go(func() (err error) {
			found[i], err = g.look(looking, o, g.exact[i])
			return err
		})
	}
	if err := e.Wait(); err != nil {
		return err
	}
	var put []store.Object
	for i, o := range g.batch {
		switch found[i] {
		case same:
			g.done.Same++
		case other:
			g.done.Conflicts++
			if g.Conflict != nil {
				g.Conflict(o.Ref)
			}
		case absent:
			put = append(put, o)
		}
	}
	if err := g.put(ctx, put); err != nil {
		return err
	}
	g.batch, g.exact, g.bytes = nil, nil, 0
	if g.Progress != nil {
		g.Progress(g.done)
	}
	return nil
}

// look says whether an object is there.
func (g *restoring) look(ctx context.Context, o store.Object, exact bool) (verdict, error) {
	info, err := g.Store.Stat(ctx, o.Ref)
	if errors.Is(err, store.ErrNotFound) {
		return absent, nil
	}
	if err != nil {
		return other, fmt.Errorf("look up %s: %w", o.Ref, err)
	}
	if !exact {
		return same, nil // there is nothing better to put there
	}
	if info.Size != int64(len(o.Body)) {
		return other, nil
	}
	have, err := g.Store.Get(ctx, o.Ref)
	if err != nil {
		return other, fmt.Errorf("read %s: %w", o.Ref, err)
	}
	if !bytes.Equal(have.Body, o.Body) || have.ContentType != o.ContentType || !maps.Equal(have.Meta, o.Meta) {
		return other, nil
	}
	return same, nil
}

// put stores objects unless this is a dry run.
func (g *restoring) put(ctx context.Context, objects []store.Object) error {
	if !g.DryRun && len(objects) > 0 {
		errs := g.Store.Put(ctx, objects...)
		for i, err := range errs {
			if err != nil {
				return fmt.Errorf("store %s: %w", objects[i].Ref, err)
			}
		}
	}
	g.done.Written += len(objects)
	for _, o := range objects {
		g.done.Bytes += int64(len(o.Body))
	}
	return nil
}
