package archive

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
)

// The bounds of what is read ahead, which bound the memory of a run beside the part itself.
const (
	aheadDocuments = 128
	aheadBytes     = 64 << 20 // of lines as estimated; a document of any size is taken alone
	parallelReads  = 32       // documents whose objects are read at the same time
)

// item is a record on its way into a part.
type item struct {
	seq uint64
	at  time.Time
	// document is nil where a part has it already: a run that was broken off got as far as the
	// manifest.
	document *volume.Document

	weight int64
	ready  chan error // says once that all objects were read, or why not
}

// items yields the records from a sequence on, in their order, with all objects of their
// documents. Objects of many documents are read at the same time. It yields one error and ends
// where it cannot go on.
func (r *run) items(ctx context.Context, from uint64) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		room := semaphore.NewWeighted(aheadBytes)
		ahead := make(chan item, aheadDocuments)
		var reads errgroup.Group
		reads.SetLimit(parallelReads)
		scanned := make(chan error, 1)
		go func() {
			defer close(ahead)
			scanned <- r.read(ctx, from, func(it item) error {
				if err := room.Acquire(ctx, it.weight); err != nil {
					return err
				}
				select {
				case ahead <- it:
				case <-ctx.Done():
					return ctx.Err()
				}
				reads.Go(func() error {
					if it.document != nil {
						it.ready <- r.gather(ctx, it.document)
					} else {
						it.ready <- nil
					}
					return nil
				})
				return nil
			})
		}()
		defer func() {
			cancel()
			for range ahead { //nolint:revive // what is left is dropped
			}
			_ = reads.Wait() // no read returns an error here
		}()
		for it := range ahead {
			err := <-it.ready
			if !yield(it, err) || err != nil {
				return
			}
			room.Release(it.weight)
		}
		if err := <-scanned; err != nil {
			yield(item{}, err)
		}
	}
}

// read goes through the records and tells those that are in a part from those that are not.
func (r *run) read(ctx context.Context, from uint64, take func(item) error) error {
	var day volume.Period
	var last uint64 // of the day's records that are in a part
	for m, err := range r.deps.Bus.Scan(ctx, contract.StreamCompleted, "", from) {
		if err != nil {
			return fmt.Errorf("read the records: %w", err)
		}
		if d := volume.Day(m.Time); d.Name != day.Name {
			day, last = d, 0
			v, err := volume.Open(ctx, r.deps.Store, day)
			if err == nil {
				last = v.Manifest.Last(r.state.Epoch)
			} else if !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		it := item{seq: m.Seq, at: m.Time.UTC(), ready: make(chan error, 1)}
		if m.Seq > last && !volume.Held(m) {
			it.document, it.weight = volume.New(m), min(estimate(m), aheadBytes)
		}
		if err := take(it); err != nil {
			return err
		}
	}
	return nil
}

// gather reads the objects of a document.
func (r *run) gather(ctx context.Context, d *volume.Document) error {
	sum := recordSum(d.Record)
	kept := d.Objects[:0]
	for _, o := range d.Objects {
		found, err := r.object(ctx, &o, sum)
		if err != nil {
			return err
		}
		if found {
			kept = append(kept, o)
		} else {
			d.Missing = append(d.Missing, o.Refs...)
		}
	}
	d.Objects = kept
	return nil
}

// object reads an object by the first of its names under which it is there, for all hold the
// same. Of a raw object one that is as the record says is preferred; sum is that.
func (r *run) object(ctx context.Context, o *volume.Object, sum string) (found bool, err error) {
	for _, ref := range o.Refs {
		read, err := r.deps.Store.Get(ctx, ref)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("read %s: %w", ref, err)
		}
		sound := o.Class != contract.ClassRaw || sum == "" || doc.Sum(read.Body) == sum
		if !sound {
			r.deps.Log.Error().Str("object", ref.String()).Msg("a raw object is not what its record says")
		}
		if !found || sound {
			found = true
			o.Body, o.ContentType, o.Meta = read.Body, read.ContentType, read.Meta
		}
		if sound {
			break
		}
	}
	return found, nil
}

// recordMeta is what this stage reads of a record.
type recordMeta struct {
	Metadata struct {
		FileSize int64  `json:"file_size"`
		Checksum string `json:"checksum"`
	} `json:"metadata"`
}

// rawSize returns the size of the raw body that a record tells, 0 where it tells none.
func rawSize(m *bus.Stored) int64 {
	var r recordMeta
	if codec.Unmarshal(m.Body, &r) != nil {
		return 0
	}
	return min(max(r.Metadata.FileSize, 0), aheadBytes)
}

// recordSum returns the sha256 of the raw body that a record tells, in hex, or nothing.
func recordSum(record []byte) string {
	var r recordMeta
	if codec.Unmarshal(record, &r) != nil {
		return ""
	}
	sum, ok := strings.CutPrefix(r.Metadata.Checksum, "sha256:")
	if !ok {
		return ""
	}
	return sum
}
