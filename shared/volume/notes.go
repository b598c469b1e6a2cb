package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/store"
)

// Names of objects beside a manifest that are no part of the volume.
const (
	restoredName = "restored.json"
	removedName  = "removed.json"
)

// RestoredNote says of a day that its documents were restored, so that what was brought back
// stays for its time again.
type RestoredNote struct {
	At time.Time `json:"restored_at"`
}

// ReadRestored returns when the documents of a day were restored last, the zero time where
// they never were.
func ReadRestored(ctx context.Context, s store.Store, day Period) (time.Time, error) {
	var n RestoredNote
	_, err := ReadNote(ctx, s, day.ref(restoredName), &n)
	return n.At, err
}

// WriteRestored notes that the documents of a day are restored at a time. It is to be written
// before the first of them is, while nothing is being removed.
func WriteRestored(ctx context.Context, s store.Store, day Period, at time.Time) error {
	return WriteNote(ctx, s, day.ref(restoredName), RestoredNote{At: at.UTC()})
}

// RemovedNote is what is left of a volume that was removed because its time was over.
type RemovedNote struct {
	At        time.Time `json:"removed_at"`
	Documents int       `json:"documents"`
	Parts     []Pointer `json:"parts"`
}

// WriteRemoved notes that a volume is removed.
func (v *Volume) WriteRemoved(ctx context.Context, at time.Time) error {
	n := RemovedNote{At: at.UTC(), Documents: v.Manifest.Documents}
	for _, p := range v.Manifest.Parts {
		n.Parts = append(n.Parts, Pointer{Key: p.Key, SHA256: p.SHA256, Bytes: p.Bytes})
	}
	return WriteNote(ctx, v.store, v.Period.ref(removedName), n)
}

// wasRemoved reports whether a volume that is not there was removed because its time was over.
func wasRemoved(ctx context.Context, s store.Store, p Period) (bool, error) {
	var n RemovedNote
	return ReadNote(ctx, s, p.ref(removedName), &n)
}

// Objects names all objects of the volume, the manifest first: without it the others are none.
func (v *Volume) Objects() []store.Ref {
	refs := []store.Ref{v.Period.Manifest()}
	for _, p := range v.Manifest.Parts {
		refs = append(refs, object(p.Key))
		if p.Index != nil {
			refs = append(refs, object(p.Index.Key))
		}
	}
	return refs
}

// Note names an object beside the manifest.
func (p Period) Note(name string) store.Ref { return p.ref(name) }

// ReadNote reads an object beside a manifest into to, and reports whether it is there.
func ReadNote(ctx context.Context, s store.Store, r store.Ref, to any) (bool, error) {
	o, err := s.Get(ctx, r)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err == nil {
		err = codec.Unmarshal(o.Body, to)
	}
	if err != nil {
		return false, fmt.Errorf("read the note %s: %w", r, err)
	}
	return true, nil
}

// WriteNote writes an object beside a manifest.
func WriteNote(ctx context.Context, s store.Store, r store.Ref, note any) error {
	text, err := codec.MarshalIndent(note)
	if err != nil {
		return fmt.Errorf("write the note %s: %w", r, err)
	}
	for _, err := range s.Put(ctx, store.Object{Ref: r, Body: text, ContentType: typeJSON}) {
		if err != nil {
			return fmt.Errorf("write the note %s: %w", r, err)
		}
	}
	return nil
}
