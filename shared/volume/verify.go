package volume

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/store"
)

// maxProblems is how many problems of a volume are told one by one.
const maxProblems = 1000

// Records is what is read of the stream of terminal records: a part of bus.Bus.
type Records interface {
	Info(ctx context.Context, stream string) (bus.Info, error)
	Scan(ctx context.Context, stream, filter string, from uint64) iter.Seq2[*bus.Stored, error]
	SeqAt(ctx context.Context, stream string, t time.Time) (uint64, error)
}

// Verifier proves that volumes hold exactly the documents of their periods. It reads all of
// them and changes nothing. It needs about 100 bytes of memory for each document of a volume.
type Verifier struct {
	Store store.Store
	// Records and States are held against the volumes where both are given: the stream, for as
	// long as it keeps a record, and LLM_JOIN, which says how far the archive has come.
	Records Records
	States  bus.KV
}

// Report is what Verify found.
type Report struct {
	Kind      Kind      `json:"kind"`
	Period    string    `json:"period"`
	Parts     int       `json:"parts"`
	Documents int       `json:"documents"`
	Bytes     int64     `json:"bytes"`            // of the parts, as they are stored
	Compared  int       `json:"compared"`         // records of LLM_COMPLETED, or documents of daily volumes, that were held against it
	Inexact   int       `json:"inexact,omitzero"` // documents in lines of version 1
	Problems  []Problem `json:"problems"`
	More      int       `json:"more_problems,omitzero"` // that are not told one by one
}

// Sound reports whether nothing is wrong.
func (r *Report) Sound() bool { return len(r.Problems) == 0 }

// Problem is one thing that is wrong with a volume.
type Problem struct {
	Key    string `json:"key"`              // the object
	Seq    uint64 `json:"seq,omitzero"`     // of the document's record
	FileID string `json:"file_id,omitzero"` // where it is known
	What   string `json:"what"`
}

// String tells the problem in one line.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Key)
	if p.Seq > 0 {
		fmt.Fprintf(&b, ", record %d", p.Seq)
	}
	if p.FileID != "" {
		fmt.Fprintf(&b, ", %s", p.FileID)
	}
	return b.String() + ": " + p.What
}

// verification is one run over one volume.
type verification struct {
	Verifier

	period Period
	state  *State // nil where it is not known
	report Report
	seen   map[recordID]sight
}

// recordID names a record for good.
type recordID struct {
	epoch int
	seq   uint64
}

// sight is what is remembered of a document.
type sight struct {
	sum   [16]byte // of the record, or of the line in a weekly or monthly volume
	exact bool
	at    int64 // completed, nanoseconds since 1970
}

// Verify checks one volume. An error says that it could not be checked; store.ErrNotFound that
// there is none and that none must be there.
func (v Verifier) Verify(ctx context.Context, p Period) (Report, error) {
	r := verification{
		Verifier: v, period: p, seen: map[recordID]sight{},
		report: Report{Kind: p.Kind, Period: p.Name, Problems: []Problem{}},
	}
	// The state first: what it says to be archived is in a manifest that is read later.
	if v.States != nil && v.Records != nil {
		s, _, err := ReadState(ctx, v.States)
		if err != nil {
			return r.report, err
		}
		r.state = &s
	}
	err := r.run(ctx)
	if err != nil {
		err = fmt.Errorf("verify %s: %w", p, err)
	}
	return r.report, err
}

func (v *verification) run(ctx context.Context) error {
	opened, err := Open(ctx, v.Store, v.period)
	missing := errors.Is(err, store.ErrNotFound)
	switch {
	case missing:
		if due, looked := v.mustExist(ctx); looked != nil || !due {
			return errors.Join(err, looked)
		}
		v.problem(Problem{Key: v.period.Manifest().Key, What: "there is no such volume, and there are documents for it"})
		return nil
	case v.damage(err):
		return nil
	case err != nil:
		return err
	}
	v.totals(opened.Manifest)
	for i := range opened.Manifest.Parts {
		if err := v.part(ctx, opened, &opened.Manifest.Parts[i]); err != nil {
			return err
		}
	}
	if v.period.Kind == Daily {
		return v.records(ctx)
	}
	return v.merged(ctx, opened.Manifest)
}

// mustExist reports whether a volume that is not there has to be.
func (v *verification) mustExist(ctx context.Context) (bool, error) {
	if v.state == nil || !v.state.Known {
		return false, nil
	}
	if gone, err := wasRemoved(ctx, v.Store, v.period); gone || err != nil {
		return false, err
	}
	if v.period.Kind != Daily {
		return v.hasDays(ctx)
	}
	found := false
	err := v.recordsOf(ctx, func(*bus.Stored) bool { found = true; return false })
	return found, err
}

// problem notes that something is wrong.
func (v *verification) problem(p Problem) {
	if len(v.report.Problems) >= maxProblems {
		v.report.More++
		return
	}
	v.report.Problems = append(v.report.Problems, p)
}

// damage notes err where it says that an object is damaged, and reports whether it does.
func (v *verification) damage(err error) bool {
	d, ok := errors.AsType[*DamageError](err)
	if ok {
		v.problem(Problem{Key: d.Key, What: d.cause.Error()})
	}
	return ok
}

// totals checks what a manifest says about its parts taken together.
func (v *verification) totals(m *Manifest) {
	sum := newManifest(v.period)
	for _, p := range m.Parts {
		sum = sum.add(p)
	}
	v.report.Parts, v.report.Bytes = len(m.Parts), sum.Bytes
	if m.Documents != sum.Documents || m.Bytes != sum.Bytes || m.Version > 0 && (!m.FirstAt.Equal(sum.FirstAt) || !m.LastAt.Equal(sum.LastAt)) {
		v.problem(Problem{Key: v.period.Manifest().Key, What: "its totals are not those of its parts"})
	}
}

// left returns what is left in seen, in the order of sequences.
func (v *verification) left() []recordID {
	return slices.SortedFunc(maps.Keys(v.seen), func(a, b recordID) int {
		if a.epoch != b.epoch {
			return a.epoch - b.epoch
		}
		if a.seq < b.seq {
			return -1
		}
		return 1
	})
}

// digest sums up bytes for comparison.
func digest(b []byte) (sum [16]byte) {
	full := sha256.Sum256(b)
	copy(sum[:], full[:])
	return sum
}

// recordDigest sums up what a document says about its record. It is also that of a record that
// was just read.
func (d *Document) recordDigest() ([16]byte, error) {
	only := Document{Seq: d.Seq, CompletedAt: d.CompletedAt, Subject: d.Subject, Header: d.Header, Record: d.Record}
	text, err := only.Encode()
	return digest(text), err
}
