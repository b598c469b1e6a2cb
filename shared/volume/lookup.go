package volume

import (
	"context"
	"sync"

	"github.com/jobspy/millrace/shared/store"
)

// Lookup finds documents in one part, many of them: it reads the part's index once, and what
// lies beside the last document that was found it has in memory. It may be used concurrently.
type Lookup struct {
	volume *Volume
	part   *Part
	index  *Index

	mu    sync.Mutex
	frame int
	text  []byte // the lines of frame; nil where none was read
}

// Lookup reads the index of a part. A part without one is read whole.
func (v *Volume) Lookup(ctx context.Context, p *Part) (*Lookup, error) {
	x, err := v.fullIndex(ctx, p)
	if err != nil {
		return nil, err
	}
	return &Lookup{volume: v, part: p, index: x}, nil
}

// Find returns the newest record of a document, and false where the part has none.
func (l *Lookup) Find(ctx context.Context, fileID string) (Placed, bool, error) {
	entries := l.index.find(fileID)
	if len(entries) == 0 {
		return Placed{}, false, nil
	}
	d, err := l.read(ctx, entries[len(entries)-1])
	return d, err == nil, err
}

// read reads the line that an entry of the index points to.
func (l *Lookup) read(ctx context.Context, e Entry) (Placed, error) {
	text, err := l.lines(ctx, e.Frame)
	if err != nil {
		return Placed{}, err
	}
	p := l.part
	if e.Offset+e.Bytes > int64(len(text)) {
		return Placed{}, damaged(p.Key, "frame %d is shorter than its index says", e.Frame)
	}
	line := text[e.Offset : e.Offset+e.Bytes]
	d, err := DecodeLine(line)
	if err != nil {
		return Placed{}, damaged(p.Key, "frame %d, byte %d of its lines: %w", e.Frame, e.Offset, err)
	}
	if d.Seq != e.Seq || d.entry().FileID != e.FileID {
		return Placed{}, damaged(p.Key, "the index takes another line for that of %q", e.FileID)
	}
	return Placed{Document: d, Part: p, Frame: e.Frame, Line: line}, nil
}

// lines returns the lines of a frame. Nobody changes them.
func (l *Lookup) lines(ctx context.Context, frame int) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text != nil && l.frame == frame {
		return l.text, nil
	}
	offset, f := l.index.frame(frame)
	packed, err := store.GetRange(ctx, l.volume.store, object(l.part.Key), offset, f.Bytes)
	if err != nil {
		return nil, missingIsDamage(l.part.Key, err)
	}
	text, err := (&unpacker{}).unpack(packed, f.Lines)
	if err != nil {
		return nil, damaged(l.part.Key, "frame %d: %w", frame, err)
	}
	l.frame, l.text = frame, text
	return text, nil
}
