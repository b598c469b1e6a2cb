// Package route is the stage that decides what happens with a standardized document. One
// that asks for jobs becomes a task per source, chosen by region, and a deadline for joining
// the answers; every other goes to aggregate. The core is pure, and what it decides depends
// on the document and on when the broker stored it, never on the clock: done again, it
// gives the same messages.
package route

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
)

// modeRealtime is doc.Routing.Mode: every document is worked on at once.
const modeRealtime = "realtime"

// The strategies, by where the jobs are wanted.
const (
	strategyAustralia    = "seek_focused_strategy"
	strategyNorthAmerica = "indeed_ziprecruiter_strategy"
	strategyGlobal       = "global_multi_platform_strategy"
	// strategyNone is that of documents that search for nothing.
	strategyNone = "none"
)

// strategies lists the strategies that ask sources.
func strategies() []string { return []string{strategyAustralia, strategyNorthAmerica, strategyGlobal} }

// The factors of the confidence in a decision, see confidence.
const (
	unsaidConfidence = 0.5 // where the model does not say how sure it is
	unknownRegion    = 0.8
	noTitle          = 0.7
	// confidenceSteps is how finely a confidence is told: in ten-thousandths.
	confidenceSteps = 10_000
)

// router is the core. It holds only what New made and may be used concurrently.
type router struct {
	cfg Config
}

// New returns the stage's handler.
func New(_ context.Context, cfg Config, _ stage.Deps) (stage.Handler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("check configuration: %w", err)
	}
	return &router{cfg: cfg}, nil
}

// Handle decides on one document. All its errors are permanent.
func (r *router) Handle(_ context.Context, in *doc.Document) ([]stage.Output, error) {
	task := contract.Task(in.Metadata.TaskType)
	if !task.Valid() {
		return nil, fault.New(contract.ReasonUnroutable, fmt.Sprintf("task type %.64q is not known", in.Metadata.TaskType))
	}
	if in.Standard == nil {
		return nil, fault.New(contract.ReasonSchema, "the document has no standard form")
	}
	switch task {
	case contract.IntentAnalysis:
		i := in.Standard.Intent
		if i == nil {
			return nil, fault.New(contract.ReasonSchema, "the standard form has no intent")
		}
		if i.IsJobRelated {
			return r.search(in), nil
		}
		return toAggregate(in, doc.Routing{Confidence: said(i.Confidence)}), nil
	case contract.DataEnrichment, contract.QualityValidation:
		// The target may still be on its way; it is waited for until the deadline.
		return toAggregate(in, doc.Routing{Confidence: 1, Deadline: r.deadline(in).UnixMilli()}), nil
	default: // job extraction, the last of the valid ones
		return toAggregate(in, doc.Routing{Confidence: 1}), nil
	}
}

// search returns the deadline of the join and then a task per source, all with the same
// routing. The deadline comes first: a task without one could be waited for in vain.
func (r *router) search(in *doc.Document) []stage.Output {
	var region doc.Region
	if in.Enrichment != nil {
		region = in.Enrichment.Region
	}
	strategy := strategyFor(region)
	sources := r.cfg.Sources.For(strategy)
	deadline := r.deadline(in)
	routing := &doc.Routing{
		Mode: modeRealtime, Strategy: strategy, Sources: sources, EstimateMS: r.estimate().Milliseconds(),
		Confidence: confidence(in.Standard.Intent, region), Deadline: deadline.UnixMilli(),
	}

	timer := routed(in, routing)
	timer.Timer = contract.TimerJoin
	outs := []stage.Output{{To: contract.Aggregate, Doc: timer, At: deadline}}
	for _, source := range sources {
		task := routed(in, routing)
		task.Source = source
		outs = append(outs, stage.Output{To: contract.Scrape, Doc: task})
	}
	return outs
}

// toAggregate returns the one output of a document that asks no source.
func toAggregate(in *doc.Document, routing doc.Routing) []stage.Output {
	routing.Mode, routing.Strategy = modeRealtime, strategyNone
	return []stage.Output{{To: contract.Aggregate, Doc: routed(in, &routing)}}
}

func routed(in *doc.Document, routing *doc.Routing) *doc.Document {
	out := in.Next()
	out.Metadata.ProcessingStatus = contract.StatusRouted
	out.Routing = routing
	return out
}

// deadline counts from when the broker stored the message, so that a redelivery or a retry
// gives the same one. It is cut to milliseconds, as doc.Routing has it.
func (r *router) deadline(in *doc.Document) time.Time {
	return in.Origin.Time.Add(r.cfg.JoinDeadline).UTC().Truncate(time.Millisecond)
}

// estimate is how long the search should take: the usual time of a source, because all are
// asked at the same time, and never longer than the answers are waited for.
func (r *router) estimate() time.Duration { return min(r.cfg.SourceTime, r.cfg.JoinDeadline) }

// strategyFor returns the strategy of a region; where nothing is known the search is global.
func strategyFor(region doc.Region) string {
	switch region {
	case doc.RegionAustralia:
		return strategyAustralia
	case doc.RegionNorthAmerica:
		return strategyNorthAmerica
	default:
		return strategyGlobal
	}
}

// confidence is the model's own, times 0.8 where the region is not known, times 0.7 where no
// title says what to search for.
func confidence(i *doc.Intent, region doc.Region) float64 {
	c := said(i.Confidence)
	if region == "" {
		c *= unknownRegion
	}
	if i.JobTitle == "" {
		c *= noTitle
	}
	return math.Round(c*confidenceSteps) / confidenceSteps
}

// said returns the confidence that a model gave, within 0 and 1.
func said(c *float64) float64 {
	if c == nil {
		return unsaidConfidence
	}
	return min(max(*c, 0), 1)
}
