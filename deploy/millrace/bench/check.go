package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

const (
	// sampleDocuments is how many documents a sample reads back.
	sampleDocuments = 200
	// checkParallel is how many documents are read back at one time.
	checkParallel = 16
)

// Checked is what was found from outside: in the stream of terminal records and in the
// store.
type Checked struct {
	Documents  int `json:"documents"`        // looked for among the terminal records
	NoRecord   int `json:"without_record"`   // have none
	TwoRecords int `json:"with_two_records"` // have more than one
	ReadBack   int `json:"read_back"`        // whose objects were read
	Objects    int `json:"objects"`          // named by their records
	Unreadable int `json:"unreadable"`       // of those
	Unequal    int `json:"unequal"`          // raw objects that are not what was sent
}

// OK reports whether nothing is wrong.
func (c Checked) OK() bool { return c.NoRecord+c.TwoRecords+c.Unreadable+c.Unequal == 0 }

// check looks for the records of n documents from number first on, in the stream of
// terminal records from sequence from on, and reads their objects back.
func (r *run) check(ctx context.Context, documents *corpus, first, n int, from uint64) (*Checked, error) {
	every := 1
	if r.Check == CheckSample {
		every = max((n+sampleDocuments-1)/sampleDocuments, 1)
	}
	out := &Checked{Documents: n}
	records := make([]int, n)
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(checkParallel)
	var scanning error
	for m, err := range r.Producer.Scan(gctx, contract.StreamCompleted, "", from) {
		if err != nil {
			scanning = err
			break
		}
		number, ours := strings.CutPrefix(m.Header[contract.HeaderFileID], prefix(r.id))
		i, err := strconv.Atoi(number)
		i -= first
		if !ours || err != nil || i < 0 || i >= n {
			continue
		}
		if records[i]++; records[i] > 1 || i%every != 0 {
			continue
		}
		g.Go(func() error {
			d, err := documents.document(first + i)
			if err != nil {
				return err
			}
			found, err := readBack(gctx, r.Objects, d, m.Body)
			mu.Lock()
			defer mu.Unlock()
			out.ReadBack++
			out.Objects += found.Objects
			out.Unreadable += found.Unreadable
			out.Unequal += found.Unequal
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, n := range records {
		switch {
		case n == 0:
			out.NoRecord++
		case n > 1:
			out.TwoRecords++
		}
	}
	return out, scanning
}

// readBack reads every object that a record names.
func readBack(ctx context.Context, s store.Store, d document, body []byte) (found Checked, err error) {
	refs, err := named(body)
	if err != nil {
		return found, fmt.Errorf("read the record of %s: %w", d.id, err)
	}
	found.Objects = len(refs)
	for _, ref := range refs {
		o, err := s.Get(ctx, ref)
		switch {
		case errors.Is(err, store.ErrNotFound):
			found.Unreadable++
		case err != nil:
			return found, err
		case ref.Bucket == contract.BucketRaw && !bytes.Equal(o.Body, d.body):
			found.Unequal++
		}
	}
	return found, nil
}

// named returns the objects that a terminal record names.
func named(body []byte) ([]store.Ref, error) {
	var rec doc.Record
	if err := codec.Unmarshal(body, &rec); err != nil {
		return nil, err
	}
	return rec.Objects, nil
}
