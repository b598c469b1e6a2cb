// Package scrape is the stage that asks one source for the jobs that a routed document
// looks for. Whatever becomes of the source, the document goes on: the outcome is an answer
// with a status, never a failed document. The stage keeps to robots.txt, to a rate budget
// per host and to Retry-After, and connects to public addresses only.
package scrape

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
)

// The bounds of retries and of what an answer says about failures.
const (
	minRetry = time.Second      // a retry with less time left than that is not begun
	maxRetry = 30 * time.Second // the longest wait where no deadline bounds it
	maxError = 500              // bytes of an answer's error text
)

// scraper is the stage's handler. It may be called concurrently.
type scraper struct {
	cfg     Config
	clock   func() time.Time
	sources map[string]source
}

// New returns the stage.
func New(ctx context.Context, cfg Config, deps stage.Deps) (stage.Handler, error) {
	return Through(nil)(ctx, cfg, deps)
}

// Through returns how to make the stage with all requests going through rt, which then has to
// see to it which addresses are reached; nil is the network.
func Through(rt http.RoundTripper) stage.Build[Config] {
	return func(_ context.Context, cfg Config, deps stage.Deps) (stage.Handler, error) {
		if err := cfg.Validate(); err != nil {
			return nil, err
		}
		f := newFetcher(&cfg, deps.Clock)
		if rt != nil {
			f.secure.Transport, f.plain.Transport = rt, rt
		}
		return &scraper{cfg: cfg, clock: deps.Clock, sources: map[string]source{
			sourceGreenhouse: newGreenhouse(&cfg.Greenhouse, f),
		}}, nil
	}
}

// Handle asks the source of one task. An error means that the task may be tried again while
// the join is open, or that it is no task at all.
func (s *scraper) Handle(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
	src := s.sources[in.Source]
	if src == nil {
		return nil, fault.New(contract.ReasonUnroutable, fmt.Sprintf("there is no source %q", in.Source))
	}
	if in.Standard == nil || in.Standard.Intent == nil {
		return nil, fault.New(contract.ReasonMalformed, "a scrape task without an intent")
	}
	limit := s.cfg.Timeout
	left, bounded := s.left(in)
	if bounded {
		limit = min(limit, left)
	}
	if limit <= 0 {
		return answer(in, doc.Answer{Status: doc.SourceTimeout, Error: "the join was closed before the source could be asked"}, nil), nil
	}
	asking, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	found := src.search(asking, newQuery(in, s.cfg.MaxJobs))
	if ctx.Err() != nil {
		return nil, fmt.Errorf("ask source %s: %w", in.Source, context.Cause(ctx))
	}
	a := doc.Answer{Status: doc.SourceOK, Jobs: found.jobs, Error: texts(found.failures)}
	if found.answered == 0 {
		status, again := worst(found.failures)
		if again != nil && s.fits(in, again.after) {
			return nil, fault.RetryAfter(contract.ReasonExhausted, errors.Join(found.failures...), again.after)
		}
		a.Status = status
	}
	return answer(in, a, found.pages), nil
}

// GaveUp turns whatever ended a task into the status of its source.
func (s *scraper) GaveUp(in *doc.Document, reason contract.Reason, cause error) []stage.Output {
	status := doc.SourceFailed
	e, known := errors.AsType[*sourceError](cause)
	switch {
	case reason == contract.ReasonTimeout:
		status = doc.SourceTimeout
	case reason == contract.ReasonBlocked:
		status = doc.SourceBlocked
	case known && reason == contract.ReasonExhausted:
		status = e.status
	}
	text := string(reason)
	if cause != nil {
		text = cause.Error()
	}
	return answer(in, doc.Answer{Status: status, Error: text}, nil)
}

// left returns how much time there is until the join is closed.
func (s *scraper) left(in *doc.Document) (left time.Duration, bounded bool) {
	if in.Routing == nil || in.Routing.Deadline <= 0 {
		return 0, false
	}
	return time.UnixMilli(in.Routing.Deadline).Sub(s.clock()), true
}

// fits reports whether another try after d can still be part of the join.
func (s *scraper) fits(in *doc.Document, d time.Duration) bool {
	left, bounded := s.left(in)
	if !bounded {
		return d <= maxRetry
	}
	return max(d, minRetry)+minRetry <= left
}

// worst returns the status of a source none of whose requests was answered, that of the
// first failure, and the failure with the longest delay among those that may go away.
func worst(failures []error) (status doc.SourceStatus, again *sourceError) {
	status = doc.SourceFailed
	for i, err := range failures {
		e, ok := errors.AsType[*sourceError](err)
		if !ok {
			continue
		}
		if i == 0 {
			status = e.status
		}
		if e.again && (again == nil || e.after > again.after) {
			again = e
		}
	}
	return status, again
}

// answer makes the output for a task: what was found goes to aggregate, what was received
// into the bucket as it was.
func answer(in *doc.Document, a doc.Answer, pages []page) []stage.Output {
	a.Source = in.Source
	a.Error = cut(strings.ToValidUTF8(a.Error, "\uFFFD"), maxError)
	d := in.Next()
	d.Envelope = doc.Envelope{Metadata: in.Metadata, Routing: in.Routing, Answer: &a}
	d.Metadata.ProcessingStatus = contract.StatusScraped
	if in.Standard != nil && in.Standard.Intent != nil {
		d.Standard = &doc.Standard{Intent: in.Standard.Intent}
	}
	out := stage.Output{To: contract.Aggregate, Doc: d}
	if len(pages) > 0 {
		o := rawObject(in, pages)
		a.Raw = &o.Ref
		out.Objects, out.ObjectsFirst = append(out.Objects, o), true // the source may answer otherwise next time
	}
	return []stage.Output{out}
}

// texts joins what went wrong into one line.
func texts(failures []error) string {
	lines := make([]string, len(failures))
	for i, err := range failures {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "; ")
}
