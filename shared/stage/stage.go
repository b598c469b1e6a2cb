// Package stage runs a stage: it takes documents from the lanes of the stage's stream,
// hands them to the stage's handler, stores and publishes what comes out and only then
// acknowledges. It alone acknowledges, retries, writes dead letters and stops.
package stage

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/store"
)

// Handler is the core of a stage: a function of a document. The runner may call it
// concurrently, cancels ctx when its time is over, and calls it again with the same input
// after a crash, so that what it does must be harmless the second time.
//
// The error's verdict (package fault) decides what happens: nothing else does. No outputs
// and no error is allowed only for a duplicate, a lost terminal state, or an answer kept in
// a join.
type Handler interface {
	Handle(ctx context.Context, in *doc.Document) ([]Output, error)
}

// GaveUp is implemented by a handler whose document does not become a dead letter when
// its attempts are spent or its error is permanent: what it returns is published instead.
type GaveUp interface {
	GaveUp(in *doc.Document, reason contract.Reason, cause error) []Output
}

// Lasting is implemented by a handler some of whose timers may take longer than one attempt
// at a document. While such a one is handled it is told to the broker as any other, but it
// keeps no suspect document waiting for its turn to run alone.
type Lasting interface {
	// Lasts returns how long the timer's message may take, and 0 where it is as any other. It
	// is asked for messages of timers only.
	Lasts(in *doc.Document) time.Duration
}

// Output is one message that a handler wants published, with the objects that belong to
// it. Objects are stored beside publishing; the input is acknowledged when both are done.
// Several outputs are published in their order, each confirmed before the next.
type Output struct {
	// To is the stage that Doc goes to. Empty where Subject is set.
	To  contract.Stage
	Doc *doc.Document
	// At delays the delivery to To: a timer. Zero means at once.
	At time.Time

	// Subject and Body are a message for people or callers: a result or a terminal record.
	Subject string
	Body    []byte
	// ID is the message's idempotency key where it is not that of the work.
	ID string
	// Terminal says that this is the terminal record: it is published only by the holder of
	// the document's terminal state.
	Terminal bool

	Objects []store.Object
	// ObjectsFirst says that Objects are stored before anything is published: they would be
	// others, or none, if the work were done again after a crash, while what was published
	// stands and names them.
	ObjectsFirst bool
	// After is called when all objects are stored and all outputs published, before the input
	// is acknowledged; nil is nothing. It is tried again while it fails, unless for good, which
	// is only logged: what was published stays.
	After func(ctx context.Context) error
}

// Announced tells which objects are stored without asking the store.
type Announced interface {
	// Await returns those of refs that were not announced, at the latest after patience.
	Await(ctx context.Context, refs []store.Ref, patience time.Duration) []store.Ref
}

// Deps is what a handler may use besides its configuration.
type Deps struct {
	Ledger *ledger.Ledger
	Bus    bus.Bus
	Store  store.Store // writes are gathered across documents and lanes
	// Announced tells which objects were announced as stored; nil where the stage does not ask.
	Announced Announced
	Clock     func() time.Time
	Log       zerolog.Logger
	// Policy returns the storage policy as it is now. Nil means as it is before anybody has
	// changed it: ask Storage. Where a document is stored is for ingest to read out of it; all
	// others keep to the document's layout.
	Policy func() policy.Storage
	// Names are what buckets are called in the store, for what is told to the world. Store
	// takes our names for them and theirs.
	Names store.Names
	// ReplayMax is how often a document may be replayed; 0 means without end.
	ReplayMax int
}

// Storage returns the storage policy as it is now.
func (d Deps) Storage() policy.Storage {
	if d.Policy == nil {
		return policy.Seed(nil)
	}
	return d.Policy()
}

// TooOften refuses a document that was replayed more often than ReplayMax.
func (d Deps) TooOften(in *doc.Document) error {
	if d.ReplayMax == 0 || in.Replay <= d.ReplayMax {
		return nil
	}
	return fault.New(contract.ReasonRejected, fmt.Sprintf("too many replays: this is number %d, REPLAY_MAX is %d", in.Replay, d.ReplayMax))
}
