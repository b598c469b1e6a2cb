package volume

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// Volume is a volume opened for reading, as its manifest was then. It may be used
// concurrently.
type Volume struct {
	Period   Period
	Manifest *Manifest
	store    store.Store
}

// Open reads the manifest of a volume. Errors: store.ErrNotFound, DamageError.
func Open(ctx context.Context, s store.Store, p Period) (*Volume, error) {
	m, err := readManifest(ctx, s, p)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", p, err)
	}
	return &Volume{Period: p, Manifest: m, store: s}, nil
}

// readOrNew reads the manifest of a volume, or begins one.
func readOrNew(ctx context.Context, s store.Store, p Period) (*Manifest, error) {
	m, err := readManifest(ctx, s, p)
	if errors.Is(err, store.ErrNotFound) {
		return newManifest(p), nil
	}
	return m, err
}

// Placed is a document and where it is.
type Placed struct {
	*Document

	Part  *Part
	Frame int
	Line  []byte // as it stands in the part, without the newline
}

// Documents yields the documents of the volume in the order of their parts, each checked
// against the index's frames and decoded. It reads a few frames at a time, so that a volume of
// any size needs little memory. It yields one error and ends where it cannot go on.
func (v *Volume) Documents(ctx context.Context) iter.Seq2[Placed, error] {
	return func(yield func(Placed, error) bool) {
		for i := range v.Manifest.Parts {
			for d, err := range v.partDocuments(ctx, &v.Manifest.Parts[i]) {
				if !yield(d, err) || err != nil {
					return
				}
			}
		}
	}
}

// partDocuments yields the documents of one part.
func (v *Volume) partDocuments(ctx context.Context, p *Part) iter.Seq2[Placed, error] {
	return func(yield func(Placed, error) bool) {
		x, err := v.frames(ctx, p)
		if err != nil {
			yield(Placed{}, err)
			return
		}
		r := newReader(v.store, p, x.Frames)
		for l, err := range r.lines(ctx) {
			if err != nil {
				yield(Placed{}, err)
				return
			}
			d, err := DecodeLine(l.text)
			if err != nil {
				yield(Placed{}, damaged(p.Key, "frame %d, byte %d of its lines: %w", l.frame, l.offset, err))
				return
			}
			if !yield(Placed{Document: d, Part: p, Frame: l.frame, Line: l.text}, nil) {
				return
			}
		}
		if err := r.finish(); err != nil {
			yield(Placed{}, err)
		}
	}
}

// frames returns the index of a part; of a part that has none, one frame that is all of it.
func (v *Volume) frames(ctx context.Context, p *Part) (*Index, error) {
	if p.Index != nil {
		return readIndex(ctx, v.store, p)
	}
	return &Index{Frames: []Frame{{Bytes: p.Bytes, Documents: p.Documents}}}, nil
}

// Find returns the newest record of a document, and false where the volume has none. It reads
// the indexes and one frame; parts without an index are read as a whole.
func (v *Volume) Find(ctx context.Context, fileID string) (Placed, bool, error) {
	var found Placed
	for i := len(v.Manifest.Parts) - 1; i >= 0; i-- {
		p := &v.Manifest.Parts[i]
		d, ok, err := v.findIn(ctx, p, fileID)
		if err != nil {
			return Placed{}, false, err
		}
		// A later part may be an amendment by an earlier record.
		if ok && (found.Document == nil || d.CompletedAt.After(found.CompletedAt)) {
			found = d
		}
	}
	return found, found.Document != nil, nil
}

func (v *Volume) findIn(ctx context.Context, p *Part, fileID string) (Placed, bool, error) {
	l, err := v.Lookup(ctx, p)
	if err != nil {
		return Placed{}, false, err
	}
	return l.Find(ctx, fileID)
}

// Periods yields the periods that have a volume, the oldest first.
func Periods(ctx context.Context, s store.Store, kind Kind) iter.Seq2[Period, error] {
	return func(yield func(Period, error) bool) {
		for info, err := range s.List(ctx, contract.BucketArchive, string(kind)+"/") {
			if err != nil {
				yield(Period{}, fmt.Errorf("list the %s archives: %w", kind, err))
				return
			}
			p, name, ok := periodOf(info.Key)
			if ok && name == manifestName && !yield(p, nil) {
				return
			}
		}
	}
}

// Checksum returns the sha256 of the raw object of a document, in hex, and false where the
// document holds none.
func (d *Document) Checksum() (sum string, ok bool) {
	for i := range d.Objects {
		if d.Objects[i].Class == contract.ClassRaw {
			return doc.Sum(d.Objects[i].Body), true
		}
	}
	return "", false
}
