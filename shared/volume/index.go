package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// Index says where the documents of one part are.
type Index struct {
	Version   int     `json:"version"`
	Frames    []Frame `json:"frames"`
	Documents []Entry `json:"documents"` // in the order of file_id, then sequence
}

// Frame is a piece of a part that can be decompressed by itself. The frames of a part follow
// each other without a gap.
type Frame struct {
	Bytes     int64 `json:"bytes"` // compressed
	Lines     int64 `json:"lines"` // bytes before compression
	Documents int   `json:"documents"`
}

// Entry is where the line of one document is, and what it is.
type Entry struct {
	FileID    string    `json:"file_id"`
	Seq       uint64    `json:"seq"`
	Name      string    `json:"name"`
	Task      string    `json:"task"`
	Provider  string    `json:"provider"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	Frame     int       `json:"frame"`  // from 0
	Offset    int64     `json:"offset"` // of the line in the frame's lines
	Bytes     int64     `json:"bytes"`  // of the line, without the newline
}

// sort brings the documents into the order in which an index has them.
func (x *Index) sort() {
	slices.SortStableFunc(x.Documents, func(a, b Entry) int {
		return cmp.Or(strings.Compare(a.FileID, b.FileID), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Frame, b.Frame), cmp.Compare(a.Offset, b.Offset))
	})
}

// find returns the entries of a document, the newest record last.
func (x *Index) find(fileID string) []Entry {
	by := func(e Entry, id string) int { return strings.Compare(e.FileID, id) }
	from, ok := slices.BinarySearchFunc(x.Documents, fileID, by)
	if !ok {
		return nil
	}
	to := from
	for to < len(x.Documents) && x.Documents[to].FileID == fileID {
		to++
	}
	return x.Documents[from:to]
}

// frame returns frame n and where it begins in the part.
func (x *Index) frame(n int) (offset int64, f Frame) {
	for _, f := range x.Frames[:n] {
		offset += f.Bytes
	}
	return offset, x.Frames[n]
}

// encode writes the index as it is stored.
func (x *Index) encode() ([]byte, error) {
	text, err := codec.Marshal(x)
	if err != nil {
		return nil, fmt.Errorf("write an index: %w", err)
	}
	return (&packer{}).pack(text)
}

// maxIndex bounds what an index has before compression, in bytes: some millions of documents.
const maxIndex = 1 << 30

// DecodeIndex reads the index of a part that has a number of bytes. Every frame and every line
// that it names can exist.
func DecodeIndex(body []byte, part int64) (*Index, error) {
	text, err := (&unpacker{}).unpack(body, maxIndex)
	if err != nil {
		return nil, err
	}
	var x Index
	if err := codec.Unmarshal(text, &x); err != nil {
		return nil, err
	}
	return &x, x.check(part)
}

var errFrames = errors.New("its frames are not those of the part")

func (x *Index) check(part int64) error {
	if x.Version != FormatVersion {
		return fmt.Errorf("it has version %d, known are up to %d", x.Version, FormatVersion)
	}
	var sum int64
	documents := 0
	for _, f := range x.Frames {
		if f.Bytes <= 0 || f.Bytes > part-sum || f.Lines <= 0 || f.Lines > maxFrame || f.Documents <= 0 || f.Documents > len(x.Documents) {
			return errFrames
		}
		sum += f.Bytes
		documents += f.Documents
	}
	if sum != part || documents != len(x.Documents) {
		return errFrames
	}
	for i := range x.Documents {
		e := &x.Documents[i]
		if e.Frame < 0 || e.Frame >= len(x.Frames) || e.Offset < 0 || e.Bytes < 0 || e.Offset > x.Frames[e.Frame].Lines-e.Bytes {
			return fmt.Errorf("%q is at a place that does not exist", e.FileID)
		}
	}
	return nil
}

// readIndex reads the index of a part that has one, and holds it against its checksum.
func readIndex(ctx context.Context, s store.Store, p *Part) (*Index, error) {
	o, err := s.Get(ctx, object(p.Index.Key))
	if err != nil {
		return nil, missingIsDamage(p.Index.Key, err)
	}
	if doc.Sum(o.Body) != p.Index.SHA256 {
		return nil, damaged(p.Index.Key, "its sha256 is not what the manifest says")
	}
	x, err := DecodeIndex(o.Body, p.Bytes)
	if err != nil {
		return nil, &DamageError{Key: p.Index.Key, cause: err}
	}
	if len(x.Documents) != p.Documents {
		return nil, damaged(p.Index.Key, "it has %d documents, the manifest says %d", len(x.Documents), p.Documents)
	}
	return x, nil
}

// missingIsDamage says of an object that a manifest names and that is not there that it is
// damaged.
func missingIsDamage(key string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return &DamageError{Key: key, cause: err}
	}
	return err
}
