package volume

import (
	"context"
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// The content types of the archive's objects.
const (
	typeJSON = "application/json"
	typeZstd = "application/zstd"
)

// Limits says when a part is full.
type Limits struct {
	Documents int   // the most in a part
	Bytes     int64 // of lines, before compression; the last line may go over
}

// Builder fills one part. Its zero value is an empty part; only one goroutine may use it.
type Builder struct {
	body   []byte
	frame  []byte // lines of the frame being filled
	inside int    // documents in it
	index  Index
	part   Part
	zip    packer
}

// Compress says how hard to compress: fastest, default, better or best; anything else means
// default. It is to be called before the first Add.
func (b *Builder) Compress(level string) {
	if ok, l := zstd.EncoderLevelFromString(level); ok {
		b.zip.level = l
	}
}

// Documents returns how many documents are in the part.
func (b *Builder) Documents() int { return b.part.Documents }

// Lines returns how many bytes of lines are in the part.
func (b *Builder) Lines() int64 { return b.part.Lines }

// Full reports whether nothing more belongs into the part.
func (b *Builder) Full(l Limits) bool {
	return b.part.Documents >= l.Documents || b.part.Lines >= l.Bytes
}

// Add appends a document.
func (b *Builder) Add(d *Document) error {
	text, err := d.Encode()
	if err != nil {
		return err
	}
	b.note(d, text)
	b.frame = append(append(b.frame, text...), '\n')
	b.inside++
	b.part.Lines += int64(len(text)) + 1
	if b.inside >= frameDocuments || len(b.frame) >= frameLines {
		return b.flush()
	}
	return nil
}

// note enters a document into the index and the description of the part.
func (b *Builder) note(d *Document, text []byte) {
	e := d.entry()
	e.Frame, e.Offset, e.Bytes = len(b.index.Frames), int64(len(b.frame)), int64(len(text))
	b.index.Documents = append(b.index.Documents, e)
	b.part.Documents++
	b.part.cover(d.Seq, d.Seq, d.CompletedAt, d.CompletedAt)
}

// cover widens what a part spans.
func (p *Part) cover(firstSeq, lastSeq uint64, firstAt, lastAt time.Time) {
	if p.FirstSeq == 0 || firstSeq < p.FirstSeq {
		p.FirstSeq = firstSeq
	}
	p.LastSeq = max(p.LastSeq, lastSeq)
	if !firstAt.IsZero() && (p.FirstAt.IsZero() || firstAt.Before(p.FirstAt)) {
		p.FirstAt = firstAt
	}
	if lastAt.After(p.LastAt) {
		p.LastAt = lastAt
	}
}

// flush ends a frame.
func (b *Builder) flush() error {
	if b.inside == 0 {
		return nil
	}
	packed, err := b.zip.pack(b.frame)
	if err != nil {
		return err
	}
	b.body = append(b.body, packed...)
	b.index.Frames = append(b.index.Frames, Frame{Bytes: int64(len(packed)), Lines: int64(len(b.frame)), Documents: b.inside})
	b.frame, b.inside = b.frame[:0], 0
	return nil
}

// Append stores what a builder holds as the next part of a volume: the part, its index, then
// the manifest that names both. The part's number follows from the manifest, so that one whose
// manifest never came is overwritten. epoch is that of the documents' sequences.
func Append(ctx context.Context, s store.Store, p Period, b *Builder, epoch int) error {
	if err := b.flush(); err != nil {
		return err
	}
	b.part.Epoch = epoch
	m, err := readOrNew(ctx, s, p)
	if err != nil {
		return err
	}
	_, err = appendPart(ctx, s, p, m, b.part, &b.index, b.body)
	return err
}

// appendPart stores a part and returns the manifest that names it.
func appendPart(ctx context.Context, s store.Store, p Period, m *Manifest, part Part, x *Index, body []byte) (*Manifest, error) {
	n := len(m.Parts) + 1
	x.Version = FormatVersion
	x.sort()
	packed, err := x.encode()
	if err != nil {
		return nil, err
	}
	index := pointer(p.IndexKey(n), packed)
	part.Key, part.Bytes, part.SHA256, part.Index = p.PartKey(n), int64(len(body)), doc.Sum(body), &index
	m = m.add(part)
	text, err := m.encode()
	if err != nil {
		return nil, err
	}
	for _, o := range []store.Object{
		{Ref: object(part.Key), Body: body, ContentType: typeZstd},
		{Ref: object(index.Key), Body: packed, ContentType: typeZstd},
		{Ref: p.Manifest(), Body: text, ContentType: typeJSON},
	} {
		for _, err := range s.Put(ctx, o) {
			if err != nil {
				return nil, fmt.Errorf("store %s: %w", o.Ref, err)
			}
		}
	}
	return m, nil
}
