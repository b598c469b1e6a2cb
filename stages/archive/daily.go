package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
)

// The bounds of one run. A run ends before its lease does, so that nobody else can be
// writing the same archive.
const (
	runBudget  = 15 * time.Second // after that no more documents are begun
	runLimit   = 25 * time.Second // after that it is broken off
	leaseTTL   = time.Minute
	leaseRetry = 5 * time.Second // how often a lease that is taken is asked for
	moreRetry  = time.Second     // the pause before the next run where one was not enough
)

// The keys of the archive's own state. A dot stands in no file_id, which have keys in the
// same bucket.
const (
	keyState = "archive.daily"
	keyLease = "archive.lease"
)

// progress is how far the archives have come.
type progress struct {
	LastSeq uint64 `json:"last_seq"` // the last record that is in an archive
	// Epoch counts how often the stream of records was seen to begin anew, which is when
	// sequences say nothing about earlier parts.
	Epoch int `json:"epoch,omitzero"`
}

// run is one run of the daily archive.
type run struct {
	*archiver
	kv    bus.KV
	lease uint64 // revision
	state progress
	rev   uint64
	part  *part // being filled; nil where none is
}

// daily brings the archives up to the newest record. Broken off anywhere and run again it
// leaves each document in one part: a part counts when its day's manifest names it, and
// what a manifest names is not written again.
func (a *archiver) daily(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	kv, err := a.states.KV(ctx)
	if err != nil {
		return err
	}
	r := &run{archiver: a, kv: kv}
	r.lease, err = kv.Create(ctx, keyLease, []byte("held"), leaseTTL)
	if errors.Is(err, bus.ErrExists) {
		return fault.Wait(errors.New("another run of the archive is not over"), leaseRetry)
	}
	if err != nil {
		return fmt.Errorf("take the archive's lease: %w", err)
	}
	defer func() {
		free, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseRetry)
		defer cancel()
		if end := kv.Delete(free, keyLease); err == nil && end != nil {
			err = fmt.Errorf("give back the archive's lease: %w", end)
		}
	}()
	if err := r.load(ctx); err != nil {
		return err
	}
	return r.scan(ctx)
}

// load reads how far the archives have come, and begins anew where the stream did.
func (r *run) load(ctx context.Context) error {
	e, err := r.kv.Get(ctx, keyState)
	switch {
	case errors.Is(err, bus.ErrNotFound):
	case err != nil:
		return fmt.Errorf("read the archive's state: %w", err)
	default:
		r.rev = e.Revision
		if err := codec.Unmarshal(e.Value, &r.state); err != nil {
			return fmt.Errorf("read the archive's state: %w", err)
		}
	}
	info, err := r.deps.Bus.Info(ctx, contract.StreamCompleted)
	if err != nil {
		return fmt.Errorf("look up the records: %w", err)
	}
	if info.LastSeq >= r.state.LastSeq {
		return nil
	}
	r.deps.Log.Warn().Uint64("archived_seq", r.state.LastSeq).Uint64("last_seq", info.LastSeq).Msg("the stream of records began anew")
	return r.move(ctx, progress{Epoch: r.state.Epoch + 1})
}

// move writes down how far the archives have come.
func (r *run) move(ctx context.Context, to progress) error {
	value, err := codec.Marshal(to)
	if err != nil {
		return fmt.Errorf("write the archive's state: %w", err)
	}
	var rev uint64
	if r.rev == 0 {
		rev, err = r.kv.Create(ctx, keyState, value, 0)
	} else {
		rev, err = r.kv.Update(ctx, keyState, value, r.rev, 0)
	}
	if err != nil {
		return fmt.Errorf("write the archive's state: %w", err)
	}
	r.state, r.rev = to, rev
	return nil
}

// hold makes sure that the lease is still ours.
func (r *run) hold(ctx context.Context) error {
	rev, err := r.kv.Update(ctx, keyLease, []byte("held"), r.lease, leaseTTL)
	if err != nil {
		return fmt.Errorf("keep the archive's lease: %w", err)
	}
	r.lease = rev
	return nil
}

// scan goes through the records that are in no archive yet, a batch at a time.
func (r *run) scan(ctx context.Context) error {
	budget := runBudget
	if end, ok := ctx.Deadline(); ok { // leave a third of the time for storing
		budget = min(budget, end.Sub(r.deps.Clock())*2/3)
	}
	filling, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	var b batch
	for m, err := range r.deps.Bus.Scan(ctx, contract.StreamCompleted, "", r.state.LastSeq+1) {
		if err != nil {
			return fmt.Errorf("read the records: %w", err)
		}
		if b.add(m) {
			continue
		}
		if err := r.archive(ctx, &b); err != nil {
			return err
		}
		b = batch{}
		b.add(m)
		if filling.Err() != nil {
			if err := r.close(ctx); err != nil {
				return err
			}
			return fault.Wait(errors.New("there is more to archive than one run takes"), moreRetry)
		}
	}
	if err := r.archive(ctx, &b); err != nil {
		return err
	}
	return r.close(ctx)
}

// archive adds the records of a batch to the parts of their days.
func (r *run) archive(ctx context.Context, b *batch) error {
	lines, err := r.lines(ctx, b.records)
	if err != nil {
		return err
	}
	for i, m := range b.records {
		day := doc.Date(m.Time)
		if p := r.part; p != nil && (p.day != day || p.documents >= r.cfg.PartDocuments || p.size >= r.cfg.PartBytes) {
			if err := r.close(ctx); err != nil {
				return err
			}
		}
		if r.part == nil {
			if r.part, err = r.open(ctx, day); err != nil {
				return err
			}
		}
		r.part.seen = m.Seq
		if m.Seq <= r.part.manifest.last(r.state.Epoch) {
			continue // a run that was broken off got as far as the manifest
		}
		if err := r.part.add(m.Seq, lines[i]); err != nil {
			return err
		}
	}
	return nil
}

// close stores the part being filled, then the manifest that names it, then how far the
// archives have come, each only when the one before is stored.
func (r *run) close(ctx context.Context) error {
	p := r.part
	if p == nil {
		return nil
	}
	r.part = nil
	if p.documents > 0 {
		if err := r.hold(ctx); err != nil {
			return err
		}
		if err := r.store(ctx, p); err != nil {
			return err
		}
	}
	return r.move(ctx, progress{LastSeq: p.seen, Epoch: r.state.Epoch})
}
