package volume

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// The bounds of what is written. They are part of the format: other values give other bytes.
const (
	// frameLines is how many bytes of lines fill a frame; the last line may go over.
	frameLines = 1 << 20
	// frameDocuments is how many documents fill a frame.
	frameDocuments = 256
)

// The bounds of what is read, against damage that would take all memory.
const (
	// maxFrame is the most bytes of lines in one frame. A part of version 1 is one frame.
	maxFrame = 1 << 30
	// maxObject is the most bytes of a part or an index.
	maxObject = 1 << 30
)

// packer compresses, one piece at a time, so that the same bytes always give the same. Its
// zero value is ready; only one goroutine may use it.
type packer struct {
	level zstd.EncoderLevel // 0 means the usual one
	zip   *zstd.Encoder
}

// pack returns b as one frame.
func (p *packer) pack(b []byte) ([]byte, error) {
	if p.zip == nil {
		opts := []zstd.EOption{zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(frameLines)}
		if p.level != 0 {
			opts = append(opts, zstd.WithEncoderLevel(p.level), zstd.WithWindowSize(frameLines))
		}
		e, err := zstd.NewWriter(nil, opts...)
		if err != nil {
			return nil, fmt.Errorf("begin to compress: %w", err)
		}
		p.zip = e
	}
	return p.zip.EncodeAll(b, nil), nil
}

// unpacker decompresses. Its zero value is ready; only one goroutine may use it.
type unpacker struct{ zip *zstd.Decoder }

var errTooLarge = errors.New("it has more bytes than it may")

// unpack returns what is in b, which must be at most limit bytes.
func (u *unpacker) unpack(b []byte, limit int64) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	if h.HasFCS && h.FrameContentSize > uint64(limit) { // before memory is taken for it
		return nil, errTooLarge
	}
	if u.zip == nil {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxFrame))
		if err != nil {
			return nil, fmt.Errorf("begin to decompress: %w", err)
		}
		u.zip = d
	}
	out, err := u.zip.DecodeAll(b, nil)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	if int64(len(out)) > limit {
		return nil, errTooLarge
	}
	return out, nil
}
