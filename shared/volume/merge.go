package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// Merge brings the volume of a week or month up to the daily volumes of its days and returns
// how many parts it added. Daily parts are copied as they are, in the order of days and parts;
// several small ones become one part. What the volume holds already is not touched: a daily
// part that came later is in a further part. Broken off anywhere and called again it leaves
// the same as if nothing had happened.
//
// Before each part is stored, hold is called; its error ends the merge.
func Merge(ctx context.Context, s store.Store, p Period, l Limits, hold func(context.Context) error) (int, error) {
	m, err := readOrNew(ctx, s, p)
	if err != nil {
		return 0, fmt.Errorf("merge %s: %w", p, err)
	}
	have := map[string]bool{}
	for i := range m.Parts {
		for _, src := range m.Parts[i].Sources {
			have[src.Key] = true
		}
	}
	g := merger{store: s, period: p, limits: l, hold: hold, manifest: m}
	for _, day := range p.Days() {
		v, err := Open(ctx, s, day)
		if errors.Is(err, store.ErrNotFound) {
			continue // a day without documents
		}
		if err != nil {
			return g.added, fmt.Errorf("merge %s: %w", p, err)
		}
		for i := range v.Manifest.Parts {
			if part := &v.Manifest.Parts[i]; !have[part.Key] {
				if err := g.take(ctx, v, part); err != nil {
					return g.added, fmt.Errorf("merge %s: %w", p, err)
				}
			}
		}
	}
	if err := g.close(ctx); err != nil {
		return g.added, fmt.Errorf("merge %s: %w", p, err)
	}
	return g.added, nil
}

// merger fills the parts of a week or month.
type merger struct {
	store    store.Store
	period   Period
	limits   Limits
	hold     func(context.Context) error
	manifest *Manifest
	added    int

	part  Part // being filled
	index Index
	body  []byte
}

// take appends a daily part to the part being filled, or to a new one where that would be too
// large.
func (g *merger) take(ctx context.Context, v *Volume, p *Part) error {
	x, err := v.fullIndex(ctx, p)
	if err != nil {
		return err
	}
	var lines int64
	for _, f := range x.Frames {
		lines += f.Lines
	}
	if g.part.Documents > 0 && (g.part.Documents+p.Documents > g.limits.Documents ||
		g.part.Lines+lines > g.limits.Bytes || g.part.Epoch != p.Epoch) {
		if err := g.close(ctx); err != nil {
			return err
		}
	}
	o, err := g.store.Get(ctx, object(p.Key))
	if err != nil {
		return missingIsDamage(p.Key, err)
	}
	if doc.Sum(o.Body) != p.SHA256 {
		return damaged(p.Key, "its sha256 is not what the manifest says")
	}
	for _, e := range x.Documents {
		e.Frame += len(g.index.Frames)
		g.index.Documents = append(g.index.Documents, e)
	}
	g.index.Frames = append(g.index.Frames, x.Frames...)
	g.body = append(g.body, o.Body...)
	g.part.Documents += p.Documents
	g.part.Lines += lines
	g.part.Epoch = p.Epoch
	g.part.cover(p.FirstSeq, p.LastSeq, p.FirstAt, p.LastAt)
	g.part.Sources = append(g.part.Sources, Pointer{Key: p.Key, SHA256: p.SHA256, Bytes: p.Bytes})
	return nil
}

// close stores the part being filled.
func (g *merger) close(ctx context.Context) error {
	if g.part.Documents == 0 {
		return nil
	}
	if err := g.hold(ctx); err != nil {
		return err
	}
	m, err := appendPart(ctx, g.store, g.period, g.manifest, g.part, &g.index, g.body)
	if err != nil {
		return err
	}
	g.manifest, g.part, g.index, g.body = m, Part{}, Index{}, nil
	g.added++
	return nil
}

// fullIndex reads the index of a part, and makes that of a part that has none from its lines.
func (v *Volume) fullIndex(ctx context.Context, p *Part) (*Index, error) {
	if p.Index != nil {
		return readIndex(ctx, v.store, p)
	}
	frames := []Frame{{Bytes: p.Bytes, Documents: p.Documents}}
	r := newReader(v.store, p, frames)
	x := &Index{Version: FormatVersion}
	var lines int64
	for l, err := range r.lines(ctx) {
		if err != nil {
			return nil, err
		}
		e, err := entryAt(l)
		if err != nil {
			return nil, damaged(p.Key, "byte %d of its lines: %w", l.offset, err)
		}
		x.Documents = append(x.Documents, e)
		lines = l.offset + int64(len(l.text)) + 1
	}
	frames[0].Lines = lines
	x.Frames = frames
	x.sort()
	return x, r.finish()
}

// entryAt describes a line for an index.
func entryAt(l lineAt) (Entry, error) {
	d, err := DecodeLine(l.text)
	if err != nil {
		return Entry{}, err
	}
	e := d.entry()
	e.Frame, e.Offset, e.Bytes = l.frame, l.offset, int64(len(l.text))
	return e, nil
}
