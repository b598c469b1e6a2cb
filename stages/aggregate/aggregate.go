// Package aggregate is the stage that joins what the sources of a search gave, or its
// deadline, into one result, and that merges enrichments and verdicts into the results they
// are about. The same answers give the same result, byte for byte, in whatever order they
// arrive and however often.
package aggregate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
)

// maxAnswer is the largest real-time answer that carries its jobs, in bytes. A caller reads
// larger ones from the bucket.
const maxAnswer = 256 << 10

// aggregator is the stage's handler. It may be called concurrently, in many processes.
type aggregator struct {
	cfg   Config
	deps  stage.Deps
	joins *bus.Bound
}

// New returns the stage.
func New(_ context.Context, cfg Config, deps stage.Deps) (stage.Handler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &aggregator{cfg: cfg, deps: deps, joins: bus.Bind(deps.Bus, contract.KVJoin)}, nil
}

// Handle takes an answer of a source, a join deadline, or a document that needs no search.
func (a *aggregator) Handle(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
	if in.Timer != "" && in.Timer != contract.TimerJoin {
		return nil, fault.New(contract.ReasonUnroutable, fmt.Sprintf("there is no timer %q", in.Timer))
	}
	switch {
	case in.Timer == contract.TimerJoin:
		return a.deadline(ctx, in)
	case in.Answer != nil:
		return a.answer(ctx, in)
	case in.Outcome != nil:
		return a.ended(ctx, in)
	}
	switch contract.Task(in.Metadata.TaskType) {
	case contract.IntentAnalysis, contract.JobExtraction:
		return a.direct(ctx, in)
	case contract.DataEnrichment, contract.QualityValidation:
		return a.change(ctx, in)
	default:
		return nil, fault.New(contract.ReasonUnroutable, fmt.Sprintf("there is no task %q", in.Metadata.TaskType))
	}
}

// ended takes a document that an earlier stage has ended: it was split, or sent back to the
// model.
func (a *aggregator) ended(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
	o := *in.Outcome
	if o.Outcome != contract.OutcomeSplit && o.Outcome != contract.OutcomeReasked {
		return nil, fault.New(contract.ReasonUnroutable, fmt.Sprintf("outcome %q is not decided before aggregate", o.Outcome))
	}
	return a.finish(ctx, in, &result{Outcome: o.Outcome}, o)
}

// direct takes a document that is its own result.
func (a *aggregator) direct(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
	s := in.Standard
	r := &result{}
	switch {
	case s == nil:
		return nil, fault.New(contract.ReasonMalformed, "the document has no standard form")
	case contract.Task(in.Metadata.TaskType) == contract.JobExtraction:
		r.Outcome = contract.OutcomeStored
		if len(s.Jobs) > 0 {
			r.Outcome = contract.OutcomeJobs
			r.Jobs = merge(in.Metadata.FileID, s.Jobs)
		}
	case s.Intent == nil:
		return nil, fault.New(contract.ReasonMalformed, "the document has no intent")
	case !s.Intent.IsJobRelated:
		r.Outcome = contract.OutcomeNoSearch
	case in.Routing != nil && len(in.Routing.Sources) > 0:
		return nil, fault.New(contract.ReasonUnroutable, "a search comes with an answer or a deadline, this has neither")
	default: // there is no source to ask
		r.Outcome = contract.OutcomeDegraded
	}
	return a.finish(ctx, in, r, doc.Outcome{Outcome: r.Outcome})
}

// finish makes the result of a document that is not joined and returns the outputs. The
// result is stored beside publishing, for the archive waits for it; a large one before that,
// for whoever gets its answer reads it from the bucket.
func (a *aggregator) finish(ctx context.Context, in *doc.Document, r *result, o doc.Outcome) ([]stage.Output, error) {
	r.Metadata = metadata(in)
	d, err := a.draft(ctx, r.Metadata.FileID, r.unchanged)
	if err != nil {
		return nil, err
	}
	large := len(d.body) > maxAnswer
	if large {
		if err := d.store(ctx); err != nil {
			return nil, err
		}
	}
	outs, err := outputs(in, d.result, o)
	if err != nil || large {
		return outs, err
	}
	outs[0].Objects = []store.Object{{Ref: d.result.ref(), Body: d.body}}
	outs[0].After = d.confirm
	return outs, nil
}

// metadata is the metadata of a result.
func metadata(in *doc.Document) doc.Metadata {
	m := in.Metadata
	m.ProcessingStatus = contract.StatusAggregated
	return m
}

// outputs makes what leaves the stage: the document on its way to the archive, and the
// answer to whoever waits. The result object is stored already.
func outputs(in *doc.Document, r *result, o doc.Outcome) ([]stage.Output, error) {
	ref := r.ref()
	o.Result = &ref
	d := in.Next()
	d.Source = ""
	d.Envelope = doc.Envelope{Metadata: metadata(in), Outcome: &o}
	body, err := answerBody(r)
	if err != nil {
		return nil, err
	}
	return []stage.Output{
		{To: contract.Archive, Doc: d},
		{Subject: contract.ResultSubject(in.Metadata.FileID), Body: body},
	}, nil
}

// answerBody is the real-time answer: the result, or where it is too large what fits of it
// and where the rest is.
func answerBody(r *result) ([]byte, error) {
	body, err := r.encode()
	if err != nil || len(body) <= maxAnswer {
		return body, err
	}
	ref := r.ref()
	m := r.Metadata
	short := result{
		Metadata: doc.Metadata{
			FileID: m.FileID, CreatedAt: m.CreatedAt, TaskType: m.TaskType, Provider: m.Provider,
			ProcessingStatus: m.ProcessingStatus, FileSize: m.FileSize, Checksum: m.Checksum, Schema: m.Schema,
		},
		Outcome: r.Outcome, Sources: r.Sources, Result: &ref, Omitted: len(r.Jobs),
	}
	return short.encode()
}

// put stores one object and waits for it.
func (a *aggregator) put(ctx context.Context, ref store.Ref, body []byte) error {
	for _, err := range a.deps.Store.Put(ctx, store.Object{Ref: ref, Body: body}) {
		if err != nil {
			return fmt.Errorf("store %s: %w", ref, err)
		}
	}
	return nil
}

// get reads a JSON object of ours.
func (a *aggregator) get(ctx context.Context, ref store.Ref, v any) error {
	o, err := a.deps.Store.Get(ctx, ref)
	if err != nil {
		return fmt.Errorf("read %s: %w", ref, err)
	}
	if err := codec.Unmarshal(o.Body, v); err != nil {
		return fmt.Errorf("read %s: %w", ref, err)
	}
	return nil
}

// contains is slices.Contains for the names of sources, which a document brings.
func contains(sources []string, s string) bool { return doc.ValidID(s) && slices.Contains(sources, s) }

// now is the time of the stage's clock.
func (a *aggregator) now() time.Time { return a.deps.Clock() }
