package operate

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
)

// openLookups is how many parts of the archive are open for looking documents up. Each has its
// index in memory, and about 1 MiB of lines.
const openLookups = 8

// Archive looks up many documents in the archive. At the first look-up it reads the indexes of
// all volumes, once, and keeps 16 bytes for each record. It may be used concurrently. A day
// that is in several volumes is read in one of them.
type Archive struct {
	Store store.Store

	index lazy[*archiveIndex]
}

// archiveIndex finds the parts that may hold a document.
type archiveIndex struct {
	*index

	parts []archivePart // an entry's sequence is its place here
	// damage says that an index could not be read: who is in the archive is then not known, and
	// nothing is gained by reading all of them again.
	damage error

	mu   sync.Mutex
	open []openLookup // the one used last comes last
}

type archivePart struct {
	volume *volume.Volume
	part   *volume.Part
}

type openLookup struct {
	n int
	*volume.Lookup
}

// get returns the index, which is made at the first call.
func (a *Archive) get(ctx context.Context) (*archiveIndex, error) {
	x, err := a.index.get(func() (*archiveIndex, error) {
		x, err := a.build(ctx)
		if _, damaged := errors.AsType[*volume.DamageError](err); damaged {
			x, err = &archiveIndex{damage: err}, nil
		}
		return x, err
	})
	if err == nil {
		err = x.damage
	}
	return x, err
}

// build reads the indexes.
func (a *Archive) build(ctx context.Context) (*archiveIndex, error) {
	covers, err := volume.Covers(ctx, a.Store, func(volume.Period) bool { return true })
	if err != nil {
		return nil, err
	}
	x := &archiveIndex{index: newIndex()}
	for i := range covers {
		v, err := volume.Open(ctx, a.Store, covers[i].Period)
		if errors.Is(err, store.ErrNotFound) {
			continue // removed in between: longer ones hold it
		}
		if err != nil {
			return nil, err
		}
		for entry, err := range v.Entries(ctx) {
			if err != nil {
				return nil, err
			}
			if last := len(x.parts) - 1; last < 0 || x.parts[last].part != entry.Part {
				x.parts = append(x.parts, archivePart{v, entry.Part})
			}
			x.add(entry.FileID, uint64(len(x.parts)-1))
		}
	}
	x.sort()
	return x, nil
}

// newest returns the newest record of a document, and false where the archive has none.
func (a *Archive) newest(ctx context.Context, fileID string) (newest volume.Placed, found bool, err error) {
	x, err := a.get(ctx)
	if err != nil {
		return volume.Placed{}, false, err
	}
	for _, n := range slices.Compact(x.find(fileID)) {
		l, err := x.lookup(ctx, int(n)) //nolint:gosec // a place in a slice
		if err != nil {
			return volume.Placed{}, false, err
		}
		d, ok, err := l.Find(ctx, fileID)
		if err != nil {
			return volume.Placed{}, false, fmt.Errorf("look for %q in the archive: %w", fileID, err)
		}
		if ok && (!found || d.CompletedAt.After(newest.CompletedAt)) {
			newest, found = d, true
		}
	}
	return newest, found, nil
}

// lookup opens a part unless it is open.
func (x *archiveIndex) lookup(ctx context.Context, n int) (*volume.Lookup, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	at := slices.IndexFunc(x.open, func(o openLookup) bool { return o.n == n })
	if at >= 0 {
		o := x.open[at]
		x.open = append(slices.Delete(x.open, at, at+1), o)
		return o.Lookup, nil
	}
	l, err := x.parts[n].volume.Lookup(ctx, x.parts[n].part)
	if err != nil {
		return nil, err
	}
	if len(x.open) == openLookups {
		x.open = slices.Delete(x.open, 0, 1)
	}
	x.open = append(x.open, openLookup{n, l})
	return l, nil
}

// Completed implements Completions.
func (a *Archive) Completed(ctx context.Context, fileID string) (record []byte, found bool, err error) {
	d, found, err := a.newest(ctx, fileID)
	if !found {
		return nil, false, err
	}
	return d.Record, true, nil
}

// ArchivedDocuments is the source that reads the volumes of days, or of their weeks or months
// where the days' own are gone. Dates select days on which documents completed. A document with
// several records is yielded once, with the newest, and not where that is of another day.
type ArchivedDocuments struct {
	Archive *Archive
	Days    Selection // of which nothing but the dates counts
}

// Documents implements Source. A volume is opened once.
func (a *ArchivedDocuments) Documents(ctx context.Context) iter.Seq2[Kept, error] {
	return func(yield func(Kept, error) bool) {
		covers, err := volume.Covers(ctx, a.Archive.Store, func(day volume.Period) bool { return a.Days.day(day.Name) })
		if err != nil {
			yield(nil, err)
			return
		}
		for i := range covers {
			for k, err := range a.documents(ctx, &covers[i]) {
				if !yield(k, err) || err != nil {
					return
				}
			}
		}
	}
}

// documents yields the documents of one volume.
func (a *ArchivedDocuments) documents(ctx context.Context, c *volume.Cover) iter.Seq2[Kept, error] {
	return func(yield func(Kept, error) bool) {
		x, err := a.Archive.get(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		v, err := volume.Open(ctx, a.Archive.Store, c.Period)
		if err != nil {
			yield(nil, err)
			return
		}
		for d, err := range v.Documents(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			if !c.Contains(volume.Day(d.CompletedAt)) {
				continue
			}
			k := newArchived(d.Document)
			if len(x.find(k.original.FileID)) > 1 {
				newest, found, err := a.Archive.newest(ctx, k.original.FileID)
				if err != nil {
					yield(nil, err)
					return
				}
				if found && !newest.CompletedAt.Equal(d.CompletedAt) {
					continue
				}
			}
			if !yield(k, nil) {
				return
			}
		}
	}
}

// archivedDocument is one document of ArchivedDocuments.
type archivedDocument struct {
	record   []byte
	original doc.Original
	raw      *volume.Object // nil where the archive does not have it
	err      error          // why the record cannot be read
}

func newArchived(d *volume.Document) *archivedDocument {
	k := &archivedDocument{record: d.Record}
	r, err := d.Decode()
	m := &r.Metadata
	if err != nil {
		k.err = fmt.Errorf("%w: read the terminal record %d: %w", ErrDamaged, d.Seq, err)
	}
	lane := contract.Lane(d.Header[contract.HeaderLane])
	if lane == "" {
		lane = m.Priority
	}
	k.original = doc.Original{
		FileID: m.FileID, Name: d.Header[contract.HeaderName], Task: m.TaskType, Provider: m.Provider,
		Lane: lane, CreatedAt: m.CreatedAt.UTC(), SHA256: strings.TrimPrefix(m.Checksum, "sha256:"),
	}
	for i := range d.Objects {
		if d.Objects[i].Class == contract.ClassRaw {
			k.raw = &d.Objects[i]
		}
	}
	if k.raw != nil && k.original.Name == "" {
		key := k.raw.Refs[0].Key
		k.original.Name = key[strings.LastIndexByte(key, '/')+1:]
	}
	return k
}

// Record implements Recorded.
func (k *archivedDocument) Record() []byte { return k.record }

// Raw implements Kept. It names the object by the date's view, whether that is kept or not.
func (k *archivedDocument) Raw() store.Ref {
	if k.raw != nil {
		return k.raw.Refs[0]
	}
	o := &k.original
	return doc.Views(contract.ClassRaw, contract.Views(), o.CreatedAt, o.Provider, o.Task, o.Name)[0]
}

// Size implements Kept.
func (k *archivedDocument) Size() int64 {
	if k.raw == nil {
		return 0
	}
	return int64(len(k.raw.Body))
}

// Original implements Kept.
func (k *archivedDocument) Original(context.Context) (doc.Original, error) { return k.original, k.err }

// Body implements Kept.
func (k *archivedDocument) Body(context.Context) ([]byte, error) {
	if k.raw == nil {
		return nil, fmt.Errorf("%w: it was gone when the document was archived", ErrDamaged)
	}
	return k.raw.Body, nil
}
