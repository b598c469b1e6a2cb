package archive

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/store"
)

const (
	// sweepObjects bounds the objects of inbox and claims that are in hand at one time.
	sweepObjects = 5000
	// orphanTime is how long an object of a document that nobody knows stays, from when it was
	// stored: time to find out that a broker has lost what it knew.
	orphanTime = 7 * 24 * time.Hour
)

// swept is one prefix whose objects are removed once nobody can want them any more.
type swept struct{ class, bucket, prefix string }

// sweep removes bodies that travelled as objects, when they are over their time, their
// document has ended, and nothing names them.
func (e *expiry) sweep(ctx context.Context) error {
	for _, s := range []swept{
		{classInbox, contract.BucketRaw, contract.InboxPrefix},
		{classClaims, contract.BucketProcessed, contract.ClaimPrefix},
	} {
		limit, ok := e.limits[s.class]
		if !ok {
			continue
		}
		report := Expired{Class: s.class}
		err := e.sweepPrefix(ctx, s, e.now.Add(-limit), &report)
		if report.Removed+report.Kept.Sum() > 0 {
			e.told(report)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *expiry) sweepPrefix(ctx context.Context, s swept, before time.Time, report *Expired) error {
	var batch []store.Info
	for info, err := range e.deps.Store.List(ctx, s.bucket, s.prefix) {
		if err != nil {
			return err
		}
		if info.Modified.After(before) {
			continue
		}
		if batch = append(batch, info); len(batch) == sweepObjects {
			if err := e.sweepBatch(ctx, s, batch, report); err != nil {
				return err
			}
			batch = batch[:0]
			if e.late() {
				return errMore
			}
		}
	}
	return e.sweepBatch(ctx, s, batch, report)
}

// sweepBatch removes those objects that nobody can want any more.
func (e *expiry) sweepBatch(ctx context.Context, s swept, batch []store.Info, report *Expired) error {
	if len(batch) == 0 {
		return nil
	}
	of := func(i store.Info) string {
		id, _, _ := strings.Cut(strings.TrimPrefix(i.Key, s.prefix), "/")
		return id
	}
	ledgers, err := e.ledger(ctx)
	if err != nil {
		return err
	}
	ended := make([]bool, len(batch))
	for n, i := range batch {
		if ended[n], err = e.ended(ctx, ledgers, of(i), i); err != nil {
			return err
		}
	}
	if err := e.queues.refresh(ctx); err != nil { // after that: what has ended is on no way
		return err
	}
	var refs []store.Ref
	for n, i := range batch {
		switch {
		case e.held(i.Ref):
			report.Kept.Held++
		case e.queues.names(i.Ref) || e.queues.has(of(i)):
			report.Kept.Named++
		case !ended[n]:
			report.Kept.Unfinished++
		default:
			refs = append(refs, i.Ref)
			report.Removed++
			report.Bytes += i.Size
		}
	}
	return e.remove(ctx, refs)
}

// ledger returns the ledger of the stage, or one of its own where there is none.
func (e *expiry) ledger(ctx context.Context) (*ledger.Ledger, error) {
	if e.deps.Ledger != nil {
		return e.deps.Ledger, nil
	}
	return ledger.OpenLedger(ctx, e.deps.Bus, 0, e.deps.Clock) // it is only read
}

// ended reports whether the document of an object has ended. One that the ledger does not know
// ended long ago or was never sent; as it may also be that the broker lost what it knew, its
// objects stay for orphanTime.
func (e *expiry) ended(ctx context.Context, l *ledger.Ledger, fileID string, i store.Info) (bool, error) {
	forgotten := !e.now.Before(i.Modified.Add(orphanTime))
	if !doc.ValidID(fileID) {
		return forgotten, nil
	}
	entry, err := l.Read(ctx, fileID)
	if errors.Is(err, bus.ErrNotFound) {
		return forgotten, nil
	}
	return err == nil && entry.State == ledger.Done, err
}
