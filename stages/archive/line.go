package archive

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// The bounds of what is read at the same time, which bound the memory of a run.
const (
	batchRecords  = 32
	batchBytes    = 16 << 20 // of raw bodies; a document of any size is taken alone
	parallelReads = 16
)

// line is what an archive holds of one document.
type line struct {
	Seq          uint64      `json:"seq"`
	CompletedAt  time.Time   `json:"completed_at"`
	Record       codec.Value `json:"record"`
	Raw          *string     `json:"raw,omitzero"`        // what was sent, where it is UTF-8
	RawBase64    []byte      `json:"raw_base64,omitzero"` // else
	Validated    codec.Value `json:"validated,omitzero"`
	Enriched     codec.Value `json:"enriched,omitzero"`
	Standardized codec.Value `json:"standardized,omitzero"`
	Result       codec.Value `json:"result,omitzero"`
	Missing      []string    `json:"missing,omitzero"` // objects that are no longer there
}

// batch is a few records whose documents are read at the same time.
type batch struct {
	records []*bus.Stored
	bytes   int64
}

// add takes a record and reports whether it did: the first always.
func (b *batch) add(m *bus.Stored) bool {
	var r struct {
		Metadata struct {
			FileSize int64 `json:"file_size"`
		} `json:"metadata"`
	}
	size := int64(len(m.Body))
	if codec.Unmarshal(m.Body, &r) == nil {
		size += max(r.Metadata.FileSize, 0)
	}
	if len(b.records) > 0 && (len(b.records) >= batchRecords || b.bytes+size > batchBytes) {
		return false
	}
	b.records = append(b.records, m)
	b.bytes += size
	return true
}

// lines reads the documents of records and returns a line for each.
func (r *run) lines(ctx context.Context, records []*bus.Stored) ([][]byte, error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelReads)
	all := make([]line, len(records))
	absent := make([][]string, len(records))
	for i, m := range records {
		l := &all[i]
		l.Seq, l.CompletedAt, l.Record = m.Seq, m.Time.UTC(), jsonOf(m.Body)
		var rec doc.Record
		if err := codec.Unmarshal(m.Body, &rec); err != nil {
			continue // it is in the archive as it is
		}
		wanted := l.parts(&rec, r.deps.Names)
		absent[i] = make([]string, len(wanted))
		for n, w := range wanted {
			g.Go(func() error {
				o, err := r.deps.Store.Get(ctx, w.ref)
				if errors.Is(err, store.ErrNotFound) {
					absent[i][n] = w.ref.String()
					return nil
				}
				if err != nil {
					return fmt.Errorf("read %s: %w", w.ref, err)
				}
				w.take(o.Body)
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out := make([][]byte, len(records))
	for i := range all {
		for _, a := range absent[i] {
			if a != "" {
				all[i].Missing = append(all[i].Missing, a)
			}
		}
		text, err := codec.Marshal(&all[i])
		if err != nil {
			return nil, fmt.Errorf("write the line of record %d: %w", all[i].Seq, err)
		}
		out[i] = text
	}
	return out, nil
}

// wanted is an object that belongs into a line, and how.
type wanted struct {
	ref  store.Ref
	take func(body []byte)
}

// parts says which objects of a record belong into its line: of each class the first view,
// for all hold the same. Every take writes another field.
func (l *line) parts(rec *doc.Record, names store.Names) []wanted {
	var out []wanted
	into := func(v *codec.Value) func([]byte) {
		return func(body []byte) { *v = jsonOf(body) }
	}
	takes := map[contract.Class]func([]byte){
		contract.ClassRaw:          l.takeRaw,
		contract.ClassValidated:    into(&l.Validated),
		contract.ClassEnriched:     into(&l.Enriched),
		contract.ClassStandardized: into(&l.Standardized),
	}
	for _, c := range contract.Classes() {
		bucket, prefix := contract.ClassBucket(c)
		for _, ref := range rec.Objects {
			if names.Logical(ref.Bucket) == bucket && strings.HasPrefix(ref.Key, prefix) {
				out = append(out, wanted{ref, takes[c]})
				break
			}
		}
	}
	if rec.Result != nil {
		out = append(out, wanted{*rec.Result, into(&l.Result)})
	}
	return out
}

func (l *line) takeRaw(body []byte) {
	if utf8.Valid(body) {
		text := string(body)
		l.Raw = &text
		return
	}
	l.RawBase64 = body
}

// maxDepth is how deeply a stored document may be nested to stand in a line as JSON: as deep
// as any setting lets the content be, and what the stages put around it.
const maxDepth = 1100

// jsonOf returns a body as JSON: as it is, or as a string where it is none.
func jsonOf(body []byte) codec.Value {
	if codec.Check(body, maxDepth) == nil {
		return codec.Value(body)
	}
	v, err := codec.String(strings.ToValidUTF8(string(body), "\uFFFD"))
	if err != nil {
		return codec.Value("null")
	}
	return v
}
