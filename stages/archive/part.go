package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// The content types of the archive's objects.
const (
	typeJSON = "application/json"
	typeZstd = "application/zstd"
)

// manifest lists the parts of a day. A part that it does not name is none.
type manifest struct {
	Date      string         `json:"date"`
	Parts     []manifestPart `json:"parts"`
	Documents int            `json:"documents"`
}

type manifestPart struct {
	Key       string `json:"key"`
	Documents int    `json:"documents"`
	FirstSeq  uint64 `json:"first_seq"`
	LastSeq   uint64 `json:"last_seq"`
	SHA256    string `json:"sha256"` // of the object, compressed as it is
	Bytes     int    `json:"bytes"`  // of the object
	Epoch     int    `json:"epoch,omitzero"`
}

// last returns the last sequence that is in a part.
func (m *manifest) last(epoch int) uint64 {
	var seq uint64
	for _, p := range m.Parts {
		if p.Epoch == epoch {
			seq = max(seq, p.LastSeq)
		}
	}
	return seq
}

// dailyRef names an object in the archive of a day.
func dailyRef(day, name string) store.Ref {
	return store.Ref{Bucket: contract.BucketArchive, Key: "daily/" + day + "/" + name}
}

// part is a part of a day's archive while it is filled.
type part struct {
	day         string
	manifest    manifest // as it is stored
	seen        uint64   // the last sequence that was looked at
	first, last uint64   // of the documents in it
	documents   int
	size        int // bytes before compression
	body        bytes.Buffer
	zip         *zstd.Encoder
}

// open begins the next part of a day.
func (r *run) open(ctx context.Context, day string) (*part, error) {
	p := &part{day: day, manifest: manifest{Date: day}}
	ref := dailyRef(day, "manifest.json")
	o, err := r.deps.Store.Get(ctx, ref)
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", ref, err)
	default:
		if err := codec.Unmarshal(o.Body, &p.manifest); err != nil {
			return nil, fmt.Errorf("read %s: %w", ref, err)
		}
	}
	// One goroutine, so that the same lines give the same bytes.
	_, level := zstd.EncoderLevelFromString(r.deps.Storage().Archive.Compression)
	if p.zip, err = zstd.NewWriter(&p.body, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(level)); err != nil {
		return nil, fmt.Errorf("begin a part: %w", err)
	}
	return p, nil
}

// add writes the line of a document.
func (p *part) add(seq uint64, line []byte) error {
	for _, b := range [][]byte{line, []byte("\n")} {
		if _, err := p.zip.Write(b); err != nil {
			return fmt.Errorf("compress a part: %w", err)
		}
	}
	if p.documents == 0 {
		p.first = seq
	}
	p.last = seq
	p.documents++
	p.size += len(line) + 1
	return nil
}

// store stores a part and then the manifest that names it. The part's number follows from
// the manifest, so that one whose manifest never came is overwritten.
func (r *run) store(ctx context.Context, p *part) error {
	if err := p.zip.Close(); err != nil {
		return fmt.Errorf("compress a part: %w", err)
	}
	ref := dailyRef(p.day, fmt.Sprintf("part-%d.jsonl.zst", len(p.manifest.Parts)+1))
	body := p.body.Bytes()
	if err := r.put(ctx, store.Object{Ref: ref, Body: body, ContentType: typeZstd}); err != nil {
		return err
	}
	m := p.manifest
	m.Parts = append(m.Parts, manifestPart{
		Key: ref.Key, Documents: p.documents, FirstSeq: p.first, LastSeq: p.last,
		SHA256: doc.Sum(body), Bytes: len(body), Epoch: r.state.Epoch,
	})
	m.Documents += p.documents
	text, err := codec.MarshalIndent(m)
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return r.put(ctx, store.Object{Ref: dailyRef(p.day, "manifest.json"), Body: text, ContentType: typeJSON})
}

func (r *run) put(ctx context.Context, o store.Object) error {
	for _, err := range r.deps.Store.Put(ctx, o) {
		if err != nil {
			return fmt.Errorf("store %s: %w", o.Ref, err)
		}
	}
	return nil
}
