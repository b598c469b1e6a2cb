package volume

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"iter"
	"slices"

	"github.com/jobspy/millrace/shared/store"
)

// readAhead is how many bytes of a part are asked for at one time, compressed; a frame that is
// larger is read as a whole.
const readAhead = 4 << 20

// reader reads a part from its beginning to its end, once.
type reader struct {
	store  store.Store
	part   *Part
	frames []Frame

	window []byte // what was read and not used
	next   int64  // where the next piece begins that is read
	sum    hash.Hash
	zip    unpacker
}

func newReader(s store.Store, p *Part, frames []Frame) *reader {
	return &reader{store: s, part: p, frames: frames, sum: sha256.New()}
}

// lineAt is a line and where it is.
type lineAt struct {
	frame  int
	offset int64 // in the frame's lines
	text   []byte
}

// lines yields the lines of the part. They are good until the next frame, unless kept by a
// copy: each frame has memory of its own.
func (r *reader) lines(ctx context.Context) iter.Seq2[lineAt, error] {
	return func(yield func(lineAt, error) bool) {
		for n := range r.frames {
			text, err := r.frame(ctx, n)
			if err != nil {
				yield(lineAt{}, err)
				return
			}
			for offset := 0; offset < len(text); {
				end := bytes.IndexByte(text[offset:], '\n')
				if end < 0 {
					yield(lineAt{}, damaged(r.part.Key, "frame %d ends within a line", n))
					return
				}
				if !yield(lineAt{n, int64(offset), text[offset : offset+end]}, nil) {
					return
				}
				offset += end + 1
			}
		}
	}
}

// frame returns the lines of frame n, which is the next one.
func (r *reader) frame(ctx context.Context, n int) ([]byte, error) {
	f := r.frames[n]
	packed, err := r.take(ctx, f.Bytes)
	if err != nil {
		return nil, err
	}
	limit := f.Lines
	if limit == 0 { // a part of version 1
		limit = maxFrame
	}
	text, err := r.zip.unpack(packed, limit)
	if err != nil {
		return nil, damaged(r.part.Key, "frame %d: %w", n, err)
	}
	if f.Lines > 0 && int64(len(text)) != f.Lines {
		return nil, damaged(r.part.Key, "frame %d has %d bytes of lines, the index says %d", n, len(text), f.Lines)
	}
	return text, nil
}

// take returns the next n bytes of the part.
func (r *reader) take(ctx context.Context, n int64) ([]byte, error) {
	for int64(len(r.window)) < n {
		more, err := store.GetRange(ctx, r.store, object(r.part.Key), r.next, max(n-int64(len(r.window)), readAhead))
		if err != nil {
			return nil, missingIsDamage(r.part.Key, err)
		}
		if len(more) == 0 {
			return nil, damaged(r.part.Key, "it has %d bytes, the manifest says %d", r.next, r.part.Bytes)
		}
		r.next += int64(len(more))
		_, _ = r.sum.Write(more) // a hash never fails
		r.window = append(slices.Clip(r.window), more...)
	}
	out := r.window[:n]
	r.window = r.window[n:]
	return out, nil
}

// finish says whether the part was what the manifest says, after its last line.
func (r *reader) finish() error {
	switch {
	case len(r.window) > 0 || r.next != r.part.Bytes:
		return damaged(r.part.Key, "it has %d bytes or more, the manifest says %d", r.next, r.part.Bytes)
	case hex.EncodeToString(r.sum.Sum(nil)) != r.part.SHA256:
		return damaged(r.part.Key, "its sha256 is not what the manifest says")
	default:
		return nil
	}
}
