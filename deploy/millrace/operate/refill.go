package operate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/inbox"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/store"
)

const (
	// refillParallel is how many documents are looked at at one time.
	refillParallel = 16
	// refillStats is how many objects of one of them are looked up at one time.
	refillStats = 4
	// refillBytes bounds the bodies that are in memory at one time.
	refillBytes = 64 << 20
	// refillPause is the pause before a document is offered again that a full queue refused.
	refillPause = 500 * time.Millisecond
)

// Refill brings documents back into the line from where they are kept, after the broker has
// lost what it knew of them. Nothing is decided anew and nothing is done twice: what has
// completed gets its terminal record and its ledger entry back, what the ledger knows is left
// alone, and the rest is sent through the line. Doing it twice is harmless.
type Refill struct {
	Bus    bus.Bus
	Ledger *ledger.Ledger // its entries leave after the time that it was opened with
	Store  store.Store
	// Archive tells of completed documents beside the results; nil means that there is none.
	Archive Completions
	// Dead sends dead letters too.
	Dead bool
	// DryRun finds out what would be done and changes nothing.
	DryRun bool
	// Rate bounds how many are sent in a second; 0 means no bound.
	Rate float64
	// Full is called once where the queue is full and documents have to wait. It may be nil.
	Full func(error)
}

// Completions tells of completed documents whose terminal records are kept outside of the
// broker, such as in an archive.
type Completions interface {
	// Completed returns the terminal record of a document, byte for byte as it was published,
	// and whether there is one.
	Completed(ctx context.Context, fileID string) (record []byte, found bool, err error)
}

// Fate is what became of one document of a refill.
type Fate string

// The fates.
const (
	RefillSent      Fate = "sent"      // through the line
	RefillCompleted Fate = "completed" // it has been done: record and ledger entry are there (again)
	RefillKnown     Fate = "known"     // the ledger has it, or the broker: it is on its way or has ended
	RefillDead      Fate = "dead"      // it has a dead letter
	RefillDamaged   Fate = "damaged"   // its bytes or its metadata are not what was stored
	RefillFailed    Fate = "failed"    // anything else, as the error says
)

// Fates lists all fates.
func Fates() []Fate {
	return []Fate{RefillSent, RefillCompleted, RefillKnown, RefillDead, RefillDamaged, RefillFailed}
}

// Refilled is one document of a refill.
type Refilled struct {
	Object  string `json:"object"` // the raw object
	FileID  string `json:"file_id,omitzero"`
	Fate    Fate   `json:"fate"`
	Subject string `json:"subject,omitzero"` // where it was sent
	Record  bool   `json:"record_restored,omitzero"`
	Ledger  bool   `json:"ledger_restored,omitzero"`
	Error   string `json:"error,omitzero"`
}

// Run refills the line from a source with the documents that are selected, several at one
// time, and calls report for each, not concurrently and in no order. What is wrong with one
// does not stop the others, unless broker or store do not answer any more.
func (r *Refill) Run(ctx context.Context, from Source, s Selection, report func(Refilled)) error {
	run := refilling{
		Refill: r, selection: s, limit: rate.NewLimiter(rate.Inf, 1), room: semaphore.NewWeighted(refillBytes),
	}
	if r.Rate > 0 {
		run.limit.SetLimit(rate.Limit(r.Rate))
	}
	var reporting sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(refillParallel)
	for k, err := range from.Documents(ctx) {
		if err != nil {
			g.Go(func() error { return err })
			break
		}
		g.Go(func() error {
			out, err := run.one(ctx, k)
			if err != nil && (fault.Of(err).Kind == fault.Unavailable || ctx.Err() != nil) {
				return fmt.Errorf("stopped at %s: %w", k.Raw(), err)
			}
			if out.Fate == "" {
				return nil // it is not selected
			}
			reporting.Lock()
			defer reporting.Unlock()
			report(out)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("refill: %w", err)
	}
	return nil
}

// refilling is one run.
type refilling struct {
	*Refill
	selection Selection
	limit     *rate.Limiter
	room      *semaphore.Weighted
	full      sync.Once

	records, letters, buried lazy[*index]
}

// one decides what is to be done with a document and does it.
func (r *refilling) one(ctx context.Context, k Kept) (Refilled, error) {
	out := Refilled{Object: k.Raw().String()}
	o, err := k.Original(ctx)
	unreadable := errors.Is(err, ErrDamaged)
	if (err == nil || unreadable) && !r.selection.names(&o) || err == nil && !r.selection.day(doc.Date(o.CreatedAt)) {
		return out, nil
	}
	out.FileID = o.FileID
	if err == nil {
		out.Fate, err = r.decide(ctx, k, &o, &out)
	}
	switch {
	case errors.Is(err, ErrDamaged):
		out.Fate, out.Error = RefillDamaged, err.Error()
	case err != nil:
		out.Fate, out.Error = RefillFailed, err.Error()
	}
	return out, err
}

// decide asks the ledger first, then whether the document has completed, then whether it is
// dead; only what none of them knows is sent.
func (r *refilling) decide(ctx context.Context, k Kept, o *doc.Original, out *Refilled) (Fate, error) {
	e, err := r.Ledger.Read(ctx, o.FileID)
	known := err == nil
	switch {
	case err != nil && !errors.Is(err, bus.ErrNotFound):
		return "", err
	case known && e.SHA256 != "" && e.SHA256 != o.SHA256:
		return "", fmt.Errorf("the ledger knows file_id %s with other bytes, of sha256 %s", o.FileID, e.SHA256)
	case known && (e.State != ledger.Done || e.Holder.Kind != ledger.Completed):
		return RefillKnown, nil
	}
	c, err := r.completed(ctx, k, o)
	if err == nil && c != nil && c.result != nil && !known {
		// A result alone does not tell: what died behind the stage that wrote it has one too.
		var queued bool
		if queued, err = r.queued(ctx, o); queued {
			c = nil
		}
	}
	switch {
	case err != nil:
		return "", err
	case c != nil:
		return RefillCompleted, r.restore(ctx, o, c, out)
	case known:
		return RefillKnown, nil
	case !r.Dead:
		if dead, err := r.dead(ctx, o); err != nil || dead {
			return RefillDead, err
		}
	}
	return r.send(ctx, k, o, out)
}

// dead reports whether a document has a dead letter, in the queue or in the bucket.
func (r *refilling) dead(ctx context.Context, o *doc.Original) (bool, error) {
	queued, err := r.queued(ctx, o)
	if err != nil || queued {
		return queued, err
	}
	buried, err := r.buried.get(func() (*index, error) { return indexLetters(ctx, r.Store) })
	return err == nil && len(buried.find(o.Name)) > 0, err
}

// queued reports whether a document has a dead letter in the queue.
func (r *refilling) queued(ctx context.Context, o *doc.Original) (bool, error) {
	letters, err := r.letters.get(func() (*index, error) { return indexStream(ctx, r.Bus, contract.StreamDLQ) })
	return err == nil && len(letters.find(o.FileID)) > 0, err
}

// send publishes a document to ingest as a refill. It waits while the queue is full.
func (r *refilling) send(ctx context.Context, k Kept, o *doc.Original, out *Refilled) (Fate, error) {
	size := min(k.Size(), refillBytes)
	if err := r.room.Acquire(ctx, size); err != nil {
		return "", err
	}
	defer r.room.Release(size)
	body, err := k.Body(ctx)
	if err != nil {
		return "", err
	}
	if sum := doc.Sum(body); sum != o.SHA256 {
		return "", fmt.Errorf("%w: its bytes have the sha256 %s, its metadata says %s", ErrDamaged, sum, o.SHA256)
	}
	out.Subject = contract.RawSubject(o.Task, o.Provider, o.Lane)
	if r.DryRun {
		return RefillSent, nil
	}
	m := bus.Message{
		Subject: out.Subject, ID: fmt.Sprintf("%s:refill:0:r0:%s", o.FileID, o.SHA256[:16]), Body: body,
		Header: bus.Header{
			contract.HeaderFileID: o.FileID, contract.HeaderSHA256: o.SHA256, contract.HeaderName: o.Name,
			contract.HeaderRefillOf: k.Raw().String(),
		},
	}
	if len(body) > inbox.MaxMessage {
		p := Publisher{Store: func(context.Context) (store.Store, error) { return r.Store, nil }}
		if err := p.checkIn(ctx, &m, o.FileID, body); err != nil {
			return "", err
		}
	}
	receipt, err := r.publish(ctx, m)
	if err != nil {
		return "", err
	}
	if receipt.Duplicate {
		return RefillKnown, nil
	}
	return RefillSent, nil
}

// publish publishes m at the rate that was asked for, and offers it again while the queue is
// full.
func (r *refilling) publish(ctx context.Context, m bus.Message) (bus.Receipt, error) {
	if err := r.limit.Wait(ctx); err != nil {
		return bus.Receipt{}, err
	}
	for {
		receipt, err := bus.Insist(ctx, r.Bus, m)
		if !errors.Is(err, bus.ErrFull) {
			return receipt, err
		}
		r.full.Do(func() {
			if r.Full != nil {
				r.Full(err)
			}
		})
		if err := sleep(ctx, refillPause); err != nil {
			return bus.Receipt{}, err
		}
	}
}
