// Package archive is the last stage: it publishes the terminal record of a document once
// every object that the record names can be read, and it gathers the records of each day,
// with their documents, into volumes (package volume) that hold each document once, and those
// into the volumes of weeks and months.
package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
)

// How objects that are not there yet are waited for: a few short pauses in hand, for most
// are stored at this very moment, then by schedule.
const (
	// announcePatience is how long it is waited for the announcements of objects before the
	// store is asked. A wait holds no slot, so it may be longer than a busy store's backlog.
	announcePatience = 2 * time.Second

	objectPoll    = 500 * time.Millisecond
	parallelStats = 16 // look-ups at the same time for one document
)

// inHand are the pauses between look-ups before a document goes back on the schedule.
func inHand() []time.Duration {
	return []time.Duration{20 * time.Millisecond, 60 * time.Millisecond, 180 * time.Millisecond}
}

// archiver is the stage's handler. It may be called concurrently, in many processes.
type archiver struct {
	cfg    Config
	deps   stage.Deps
	states *bus.Bound // how far the archives have come, and who is at it
}

// New returns the stage.
func New(_ context.Context, cfg Config, deps stage.Deps) (stage.Handler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &archiver{cfg: cfg, deps: deps, states: bus.Bind(deps.Bus, contract.KVJoin)}, nil
}

// Handle ends a document, brings the archives up to date, or goes on with a replay of dead
// letters, when a timer says so.
func (a *archiver) Handle(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
	switch {
	case in.Timer == contract.CronArchive:
		return nil, a.tick(ctx)
	case in.Timer == contract.CronReplay:
		return nil, a.replay(ctx, in.Metadata.FileID)
	case in.Timer != "":
		return nil, fault.New(contract.ReasonUnroutable, fmt.Sprintf("there is no timer %q", in.Timer))
	case in.Outcome == nil || in.Outcome.Outcome == "":
		return nil, fault.New(contract.ReasonMalformed, "the document has no outcome")
	case in.Name == "":
		return nil, fault.New(contract.ReasonMalformed, "the document has no file name")
	}
	return a.complete(ctx, in)
}

// complete makes the terminal record of a document whose objects are all there.
func (a *archiver) complete(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
	began := a.deps.Clock()
	r := doc.Record{
		Metadata: in.Metadata, Outcome: in.Outcome.Outcome, Objects: a.objects(in),
		Sources: in.Outcome.Sources,
	}
	if result := in.Outcome.Result; result != nil {
		named := a.deps.Names.Ref(*result)
		r.Result = &named
	}
	if err := a.await(ctx, in, r.Objects); err != nil {
		return nil, err
	}
	r.Metadata.ProcessingStatus = contract.StatusCompleted
	at := a.deps.Clock().UTC()
	r.Timeline = append(append([]doc.Step(nil), in.Timeline...),
		doc.Step{Stage: contract.Archive, At: at, MS: at.Sub(began).Milliseconds(), Attempt: in.Attempt})
	if r.Sources == nil {
		r.Sources = []doc.SourceReport{}
	}
	body, err := codec.Marshal(r)
	if err != nil {
		return nil, fault.Permanently(contract.ReasonMalformed, fmt.Errorf("write record: %w", err))
	}
	return []stage.Output{{
		Subject: contract.CompletedSubject(in.Metadata.TaskType, in.Metadata.Provider),
		Body:    body, Terminal: true, Doc: in,
	}}, nil
}

// objects lists what the record names: the document in each class and view of its layout
// that it has been through, its result, and what aggregate adds. A document that was split or sent back
// to the model never became more than raw.
func (a *archiver) objects(in *doc.Document) []store.Ref {
	classes := contract.Classes()
	if o := in.Outcome.Outcome; o == contract.OutcomeSplit || o == contract.OutcomeReasked {
		classes = []contract.Class{contract.ClassRaw}
	}
	refs := []store.Ref{}
	for _, c := range classes {
		refs = append(refs, in.Refs(c)...)
	}
	if in.Outcome.Result != nil {
		refs = append(refs, *in.Outcome.Result)
	}
	return a.deps.Names.Refs(append(refs, in.Outcome.Objects...))
}

// await returns nil when all objects can be read, else that they have to be waited for, or
// when that took too long that they are missing.
func (a *archiver) await(ctx context.Context, in *doc.Document, refs []store.Ref) error {
	unheard := refs
	if a.deps.Announced != nil {
		unheard = a.deps.Announced.Await(ctx, a.logical(refs), announcePatience)
	}
	missing, err := a.missing(ctx, unheard)
	for _, pause := range inHand() {
		if err != nil || len(missing) == 0 {
			return err
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		missing, err = a.missing(ctx, missing)
	}
	if err != nil || len(missing) == 0 {
		return err
	}
	err = fmt.Errorf("%d of %d objects are not there, first %s", len(missing), len(refs), missing[0])
	if a.deps.Clock().Before(in.Origin.Time.Add(a.cfg.ObjectWait)) {
		return fault.Wait(err, objectPoll)
	}
	return fault.Permanently(contract.ReasonMissingObject, err)
}

// logical names buckets as the line does, which is how announcements name them.
func (a *archiver) logical(refs []store.Ref) []store.Ref {
	out := make([]store.Ref, len(refs))
	for i, r := range refs {
		out[i] = store.Ref{Bucket: a.deps.Names.Logical(r.Bucket), Key: r.Key}
	}
	return out
}

// missing returns those of refs that do not exist, in their order.
func (a *archiver) missing(ctx context.Context, refs []store.Ref) ([]store.Ref, error) {
	gone := make([]bool, len(refs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelStats)
	for i, r := range refs {
		g.Go(func() error {
			_, err := a.deps.Store.Stat(ctx, r)
			if errors.Is(err, store.ErrNotFound) {
				gone[i] = true
				return nil
			}
			if err != nil {
				return fmt.Errorf("look up %s: %w", r, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var out []store.Ref
	for i, r := range refs {
		if gone[i] {
			out = append(out, r)
		}
	}
	return out, nil
}

// sleep waits for d, or until ctx ends and then returns why.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
