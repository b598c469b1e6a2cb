package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// FormatVersion is the version of the manifests, indexes and lines written here. Version 1 had
// neither indexes nor exact lines, and its manifests name no version; it is still read.
const FormatVersion = 2

// Manifest lists the parts of a volume. A part that it does not name is none.
type Manifest struct {
	Version   int       `json:"version"`
	Kind      Kind      `json:"kind"`
	Period    string    `json:"period"`
	Date      string    `json:"date,omitzero"` // the day, in version 1
	Documents int       `json:"documents"`
	Bytes     int64     `json:"bytes"`             // of the parts, as they are stored
	FirstAt   time.Time `json:"first_at,omitzero"` // when the first document completed
	LastAt    time.Time `json:"last_at,omitzero"`
	Parts     []Part    `json:"parts"`
	// SHA256 is the checksum of this manifest with an empty checksum.
	SHA256 string `json:"sha256,omitzero"`
}

// Part describes one part of a volume.
type Part struct {
	Key       string    `json:"key"`
	Documents int       `json:"documents"`
	Bytes     int64     `json:"bytes"`          // of the object, compressed as it is
	Lines     int64     `json:"lines,omitzero"` // bytes before compression
	SHA256    string    `json:"sha256"`         // of the object
	Index     *Pointer  `json:"index,omitzero"` // nil in version 1
	FirstSeq  uint64    `json:"first_seq"`      // the least sequence in LLM_COMPLETED
	LastSeq   uint64    `json:"last_seq"`       // the greatest
	Epoch     int       `json:"epoch,omitzero"` // how often the stream began anew before
	FirstAt   time.Time `json:"first_at,omitzero"`
	LastAt    time.Time `json:"last_at,omitzero"`
	// Sources are the daily parts of which a weekly or monthly part is made, in their order.
	Sources []Pointer `json:"sources,omitzero"`
}

// Pointer names an object of the archive and what it must be.
type Pointer struct {
	Key    string `json:"key"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// pointer describes an object that is to be stored.
func pointer(key string, body []byte) Pointer {
	return Pointer{Key: key, SHA256: doc.Sum(body), Bytes: int64(len(body))}
}

// Last returns the greatest sequence of an epoch that is in a part, 0 where there is none.
func (m *Manifest) Last(epoch int) uint64 {
	var seq uint64
	for i := range m.Parts {
		if m.Parts[i].Epoch == epoch {
			seq = max(seq, m.Parts[i].LastSeq)
		}
	}
	return seq
}

// newManifest returns the manifest of a volume without parts.
func newManifest(p Period) *Manifest {
	return &Manifest{Version: FormatVersion, Kind: p.Kind, Period: p.Name, Parts: []Part{}}
}

// add returns the manifest with one more part. m stays as it is.
func (m *Manifest) add(p Part) *Manifest {
	out := *m
	out.Version, out.Date = FormatVersion, ""
	out.Parts = append(append([]Part{}, m.Parts...), p)
	out.Documents, out.Bytes, out.FirstAt, out.LastAt = 0, 0, time.Time{}, time.Time{}
	for i := range out.Parts {
		p := &out.Parts[i]
		out.Documents += p.Documents
		out.Bytes += p.Bytes
		if !p.FirstAt.IsZero() && (out.FirstAt.IsZero() || p.FirstAt.Before(out.FirstAt)) {
			out.FirstAt = p.FirstAt
		}
		if p.LastAt.After(out.LastAt) {
			out.LastAt = p.LastAt
		}
	}
	return &out
}

// encode writes the manifest with its checksum.
func (m *Manifest) encode() ([]byte, error) {
	out := *m
	out.SHA256 = ""
	text, err := codec.MarshalIndent(&out)
	if err == nil {
		out.SHA256 = doc.Sum(text)
		text, err = codec.MarshalIndent(&out)
	}
	if err != nil {
		return nil, fmt.Errorf("write the manifest: %w", err)
	}
	return text, nil
}

// errChecksum says that a manifest is not as it was written.
var errChecksum = errors.New("its checksum is another")

// DecodeManifest reads the manifest of a period. One that is not exactly as it was written is
// an error, but for those of version 1, which have no checksum.
func DecodeManifest(p Period, text []byte) (*Manifest, error) {
	var m Manifest
	if err := codec.Unmarshal(text, &m); err != nil {
		return nil, err
	}
	if m.Version == 0 && m.Date != "" { // version 1
		m.Kind, m.Period, m.Bytes = Daily, m.Date, 0
		for i := range m.Parts {
			m.Bytes += m.Parts[i].Bytes
		}
	} else {
		if m.Version != FormatVersion {
			return nil, fmt.Errorf("it has version %d, known are up to %d", m.Version, FormatVersion)
		}
		if again, err := m.encode(); err != nil || !bytes.Equal(again, text) {
			return nil, errChecksum
		}
	}
	if m.Kind != p.Kind || m.Period != p.Name {
		return nil, fmt.Errorf("it is that of %s/%s", m.Kind, m.Period)
	}
	for i := range m.Parts {
		if err := m.Parts[i].check(p, i+1); err != nil {
			return nil, err
		}
	}
	return &m, nil
}

// check reports what is wrong with the description of part n.
func (p *Part) check(of Period, n int) error {
	switch {
	case p.Key != of.PartKey(n):
		return fmt.Errorf("part %d is %q, must be %q", n, p.Key, of.PartKey(n))
	case p.Index != nil && p.Index.Key != of.IndexKey(n):
		return fmt.Errorf("the index of part %d is %q, must be %q", n, p.Index.Key, of.IndexKey(n))
	case p.Documents < 0 || p.Bytes < 0 || p.Bytes > maxObject || p.Index != nil && (p.Index.Bytes < 0 || p.Index.Bytes > maxObject):
		return fmt.Errorf("part %d has sizes that cannot be", n)
	}
	return nil
}

// readManifest reads the manifest of a period. Error: store.ErrNotFound.
func readManifest(ctx context.Context, s store.Store, p Period) (*Manifest, error) {
	ref := p.Manifest()
	o, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	m, err := DecodeManifest(p, o.Body)
	if err != nil {
		return nil, &DamageError{Key: ref.Key, cause: err}
	}
	return m, nil
}

// DamageError says that an object of the archive is not what it must be.
type DamageError struct {
	Key   string
	cause error
}

func (e *DamageError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.Key, e.cause) }

// Unwrap returns what is wrong.
func (e *DamageError) Unwrap() error { return e.cause }

// damaged says what is wrong with an object.
func damaged(key, format string, args ...any) error {
	return &DamageError{Key: key, cause: fmt.Errorf(format, args...)}
}
