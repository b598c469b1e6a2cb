package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/store"
)

// part checks one part with its index, line by line.
func (v *verification) part(ctx context.Context, opened *Volume, p *Part) error {
	index, err := opened.frames(ctx, p)
	if v.damage(err) { // the lines can be checked all the same
		index, err = &Index{Frames: []Frame{{Bytes: p.Bytes, Documents: p.Documents}}}, nil
	}
	if err != nil {
		return err
	}
	info, err := v.Store.Stat(ctx, object(p.Key))
	switch {
	case errors.Is(err, store.ErrNotFound):
		v.problem(Problem{Key: p.Key, What: "it does not exist"})
		return nil
	case err != nil:
		return err
	case info.Size != p.Bytes:
		v.problem(Problem{Key: p.Key, What: fmt.Sprintf("it has %d bytes, the manifest says %d", info.Size, p.Bytes)})
	}
	c := partCheck{verification: v, part: p, frames: make([]int, len(index.Frames))}
	r := newReader(v.Store, p, index.Frames)
	for l, err := range r.lines(ctx) {
		if v.damage(err) {
			return nil
		}
		if err != nil {
			return err
		}
		c.line(l)
	}
	if err := r.finish(); !v.damage(err) && err != nil {
		return err
	}
	c.counts()
	if index.Version > 0 {
		c.index(index)
	}
	return nil
}

// partCheck is what is gathered over the lines of a part.
type partCheck struct {
	*verification

	part    *Part
	rebuilt Index
	frames  []int // documents in each
	sum     Part
}

// line checks one line.
func (c *partCheck) line(l lineAt) {
	c.report.Documents++
	c.frames[l.frame]++
	c.sum.Documents++
	c.sum.Lines += int64(len(l.text)) + 1
	d, err := DecodeLine(l.text)
	if err != nil {
		c.problem(Problem{Key: c.part.Key, What: fmt.Sprintf("frame %d, byte %d of its lines: %v", l.frame, l.offset, err)})
		return
	}
	e := d.entry()
	e.Frame, e.Offset, e.Bytes = l.frame, l.offset, int64(len(l.text))
	c.rebuilt.Documents = append(c.rebuilt.Documents, e)
	c.sum.cover(d.Seq, d.Seq, d.CompletedAt, d.CompletedAt)
	if !d.Exact {
		c.report.Inexact++
	}
	wrong := func(format string, args ...any) {
		c.problem(Problem{Key: c.part.Key, Seq: d.Seq, FileID: e.FileID, What: fmt.Sprintf(format, args...)})
	}
	if !c.period.Contains(d.CompletedAt) {
		wrong("it completed at %s, which is not in %s", d.CompletedAt.Format(time.RFC3339Nano), c.period)
	}
	if want := recordedSum(d); want != "" {
		if sum, ok := d.Checksum(); ok && sum != want {
			wrong("the raw body is not the one of which the record holds the checksum")
		}
	}
	id := recordID{c.part.Epoch, d.Seq}
	if _, twice := c.seen[id]; twice {
		wrong("it is in the volume twice")
	}
	s := sight{exact: d.Exact, at: d.CompletedAt.UnixNano()}
	if c.period.Kind != Daily {
		s.sum = digest(l.text)
	} else if s.sum, err = d.recordDigest(); err != nil {
		wrong("it cannot be written again: %v", err)
	}
	c.seen[id] = s
}

// recordedSum returns the sha256 of the raw body that a record tells, in hex, or nothing.
func recordedSum(d *Document) string {
	r, err := d.Decode()
	if err != nil {
		return ""
	}
	sum, ok := strings.CutPrefix(r.Metadata.Checksum, "sha256:")
	if !ok {
		return ""
	}
	return sum
}

// counts holds what the lines are together against what the manifest says.
func (c *partCheck) counts() {
	p, sum := c.part, &c.sum
	wrong := func(what string, have, said any) {
		c.problem(Problem{Key: p.Key, What: fmt.Sprintf("%s is %v, the manifest says %v", what, have, said)})
	}
	if sum.Documents != p.Documents {
		wrong("the number of documents", sum.Documents, p.Documents)
	}
	if sum.FirstSeq != p.FirstSeq || sum.LastSeq != p.LastSeq {
		wrong("the span of its records", fmt.Sprintf("%d-%d", sum.FirstSeq, sum.LastSeq), fmt.Sprintf("%d-%d", p.FirstSeq, p.LastSeq))
	}
	if p.Lines > 0 && sum.Lines != p.Lines {
		wrong("the number of bytes of its lines", sum.Lines, p.Lines)
	}
	if !p.FirstAt.IsZero() && (!sum.FirstAt.Equal(p.FirstAt) || !sum.LastAt.Equal(p.LastAt)) {
		wrong("when its first and last document completed", sum.FirstAt.String()+", "+sum.LastAt.String(), p.FirstAt.String()+", "+p.LastAt.String())
	}
}

// index holds the lines against the index.
func (c *partCheck) index(x *Index) {
	key := c.part.Index.Key
	for n, f := range x.Frames {
		if c.frames[n] != f.Documents {
			c.problem(Problem{Key: key, What: fmt.Sprintf("frame %d has %d documents, the index says %d", n, c.frames[n], f.Documents)})
		}
	}
	c.rebuilt.sort()
	if slices.EqualFunc(x.Documents, c.rebuilt.Documents, sameEntry) {
		return
	}
	for i := range max(len(x.Documents), len(c.rebuilt.Documents)) {
		switch {
		case i >= len(x.Documents):
			e := c.rebuilt.Documents[i]
			c.problem(Problem{Key: key, Seq: e.Seq, FileID: e.FileID, What: "the index lacks it"})
		case i >= len(c.rebuilt.Documents) || !sameEntry(x.Documents[i], c.rebuilt.Documents[i]):
			e := x.Documents[i]
			c.problem(Problem{Key: key, Seq: e.Seq, FileID: e.FileID, What: "the index does not point at its line"})
		default:
			continue
		}
		return // all that follow are moved by one
	}
}

func sameEntry(a, b Entry) bool {
	at := a.CreatedAt.Equal(b.CreatedAt)
	a.CreatedAt, b.CreatedAt = time.Time{}, time.Time{}
	return at && a == b
}
