package operate

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// Source is where documents are kept from which the line can be refilled.
type Source interface {
	// Documents yields the documents that may be selected, without reading them, and holds no
	// more of them than it needs to go on. It yields one error and ends where it cannot.
	Documents(ctx context.Context) iter.Seq2[Kept, error]
}

// Kept is one document of a source. Its methods may be called by another goroutine than the
// one that iterates.
type Kept interface {
	// Raw names the raw object by which ingest knows the document.
	Raw() store.Ref
	// Size is the size of the body in bytes.
	Size() int64
	// Original reads what was decided of the document when it came first. Error: ErrDamaged
	// where that cannot be told.
	Original(ctx context.Context) (doc.Original, error)
	// Body reads the bytes that were sent.
	Body(ctx context.Context) ([]byte, error)
}

// Recorded is a Kept whose document has completed.
type Recorded interface {
	Kept
	// Record returns the terminal record of the document, byte for byte as it was published.
	Record() []byte
}

// ErrDamaged says that a raw object is not what was stored.
var ErrDamaged = errors.New("the raw object is damaged")

// Selection says which documents a refill is about; empty fields select all.
type Selection struct {
	Dates        []string // of created_at in UTC, such as 2025-01-27
	Since, Until string   // dates too, both included
	Prefix       string   // of the key in llm-raw, beginning with a view
	Task         string
	Provider     string
	FileID       string
}

// Validate returns everything that is wrong with s.
func (s Selection) Validate() error {
	var errs []error
	for _, d := range append(slices.Clone(s.Dates), s.Since, s.Until) {
		if _, err := time.Parse(time.DateOnly, d); d != "" && err != nil {
			errs = append(errs, fmt.Errorf("%q is no date: it must be like 2025-01-27", d))
		}
	}
	if s.Prefix != "" && !slices.ContainsFunc(contract.Views(), func(v contract.View) bool { return strings.HasPrefix(s.Prefix, string(v)+"/") }) {
		errs = append(errs, fmt.Errorf("prefix %q does not begin with a view: by_date/, by_provider/ or by_task_type/", s.Prefix))
	}
	return errors.Join(append(errs, Address{Task: s.Task, Provider: s.Provider, FileID: s.FileID}.Validate())...)
}

// names reports whether s selects a document, whatever its date.
func (s Selection) names(o *doc.Original) bool {
	return (s.Task == "" || s.Task == o.Task) && (s.Provider == "" || s.Provider == o.Provider) && (s.FileID == "" || s.FileID == o.FileID)
}

// day reports whether s selects documents of a date.
func (s Selection) day(date string) bool {
	return (len(s.Dates) == 0 || slices.Contains(s.Dates, date)) &&
		(s.Since == "" || date >= s.Since) && (s.Until == "" || date <= s.Until)
}

// RawObjects is the source that reads one view of the bucket of raw objects.
type RawObjects struct {
	Store     store.Store
	Views     []contract.View // that are kept
	Selection Selection
}

// Documents implements Source. It reads the keys page by page.
func (r *RawObjects) Documents(ctx context.Context) iter.Seq2[Kept, error] {
	return func(yield func(Kept, error) bool) {
		prefixes, err := r.prefixes(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, prefix := range prefixes {
			for info, err := range r.Store.List(ctx, contract.BucketRaw, prefix) {
				if err != nil {
					yield(nil, err)
					return
				}
				if date, dated := strings.CutPrefix(info.Key, string(contract.ByDate)+"/"); dated {
					if date, _, _ = strings.Cut(date, "/"); !r.Selection.day(date) {
						continue
					}
				}
				if !yield(&rawObject{r.Store, info}, nil) {
					return
				}
			}
		}
	}
}

// prefixes returns the prefixes of the keys that are listed, all of the same view.
func (r *RawObjects) prefixes(ctx context.Context) ([]string, error) {
	if r.Selection.Prefix != "" {
		return []string{r.Selection.Prefix}, nil
	}
	v, err := r.view(ctx)
	if err != nil || v != contract.ByDate || len(r.Selection.Dates) == 0 {
		return []string{string(v) + "/"}, err
	}
	var prefixes []string
	for _, d := range slices.Compact(slices.Sorted(slices.Values(r.Selection.Dates))) {
		prefixes = append(prefixes, string(v)+"/"+d+"/")
	}
	return prefixes, nil
}

// view returns the view that is read: by_date where it is kept, else the first that holds
// objects, for every view holds all documents.
func (r *RawObjects) view(ctx context.Context) (contract.View, error) {
	order := slices.Clone(contract.Views()) // by_date is the first of them
	if !slices.Contains(r.Views, contract.ByDate) {
		order = append(order[1:], order[0])
	}
	for _, v := range order {
		for _, err := range r.Store.List(ctx, contract.BucketRaw, string(v)+"/") {
			return v, err
		}
	}
	return order[0], nil
}

// rawObject is one object of RawObjects.
type rawObject struct {
	store store.Store
	info  store.Info
}

func (r *rawObject) Raw() store.Ref { return r.info.Ref }
func (r *rawObject) Size() int64    { return r.info.Size }

func (r *rawObject) Original(ctx context.Context) (doc.Original, error) {
	info, err := r.store.Stat(ctx, r.info.Ref)
	if err != nil {
		return doc.Original{}, err
	}
	o, err := doc.ReadOriginal(r.info.Ref, info.Meta)
	if err != nil {
		return o, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return o, nil
}

func (r *rawObject) Body(ctx context.Context) ([]byte, error) {
	o, err := r.store.Get(ctx, r.info.Ref)
	if err != nil {
		return nil, err
	}
	return o.Body, nil
}
