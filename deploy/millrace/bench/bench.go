// Package bench measures the line beside its limits, in one run: what the broker and the
// object store can do by themselves, what a driver reaches that does nothing but the line's
// durable writes, and what the line does with documents. On a busy machine only figures
// taken next to each other can be compared, so the limits are measured before and after the
// line, and what counts are the ratios.
//
// A run makes streams and objects of its own and removes them, also where it is cancelled.
// Documents that it sends through the line are documents like any others.
package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/store"
)

// Phase is a part of a run.
type Phase string

// The phases, in the order in which they are run. Broker, store and driver are the limits:
// they run before the others and again after them.
const (
	PhaseBroker  Phase = "broker"
	PhaseStore   Phase = "store"
	PhaseDriver  Phase = "driver"
	PhaseLine    Phase = "line"
	PhaseLatency Phase = "latency"
)

// Phases lists all phases.
func Phases() []Phase { return []Phase{PhaseBroker, PhaseStore, PhaseDriver, PhaseLine, PhaseLatency} }

// Extent says how many of the documents are read back after the line.
type Extent string

// The extents.
const (
	CheckAll    Extent = "all"
	CheckSample Extent = "sample" // evenly spread, about sampleDocuments of them
	CheckNone   Extent = "none"
)

// Config says what is measured.
type Config struct {
	Phases    []Phase       // nil means all
	Documents int           // through the line, for its rate
	Size      int           // of a document, in bytes
	Seed      uint64        // of the documents
	Rates     []float64     // of the open loop, in documents a second
	For       time.Duration // how long each rate is kept up
	BoundFor  time.Duration // how long each limit is measured, each time
	Wait      time.Duration // how long after the last publish the last document may end
	Check     Extent
	// Remove says that what the line stored of the run's documents is removed at the end, for
	// lines that do not outlive the run over stores that do.
	Remove bool
}

// Validate returns everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Documents >= 10, "%d documents are too few, must be at least 10", c.Documents)
	check(c.Size >= 1 && c.Size <= maxSize, "a size of %d is not from 1 to %d bytes", c.Size, maxSize)
	check(c.For > 0, "the latency cannot be measured for %s", c.For)
	check(c.BoundFor > 0, "a limit cannot be measured for %s", c.BoundFor)
	check(c.Wait > 0, "the end cannot be waited for for %s", c.Wait)
	check(c.Check == CheckAll || c.Check == CheckSample || c.Check == CheckNone, "check %q is not all, sample or none", c.Check)
	for _, r := range c.Rates {
		check(r > 0 && r <= maxRate, "a rate of %g is not from 0 to %d documents a second", r, maxRate)
	}
	for _, p := range c.Phases {
		known := false
		for _, q := range Phases() {
			known = known || p == q
		}
		check(known, "phase %q is not one of %v", p, Phases())
	}
	return errors.Join(errs...)
}

const (
	// maxSize keeps documents small enough to travel as one message.
	maxSize = 1 << 20
	// maxRate is where the timers of the open loop are no longer exact.
	maxRate = 10_000
)

func (c Config) has(p Phase) bool {
	return len(c.Phases) == 0 || slices.Contains(c.Phases, p)
}

// Target is the line that is measured and what it stands on.
type Target struct {
	Bus      *bus.JetStream // connected as the line is, for what stands in for the line
	Producer *bus.JetStream // connected as a producer is
	Objects  store.Store    // the object store itself
	Writer   store.Store    // the gathering writer over it, as the stages use it
	// Embedded says that the store is in this process, where many names of one body are
	// cheap; else Batched says whether it takes batches.
	Embedded, Batched bool
	PIDs              []int // of the processes whose use of the machine is told
	Host              Host  // what is told of the machine, the broker and the store
}

// run is one run.
type run struct {
	Config
	Target

	id       string // unique, fit for names of streams, keys and file_ids
	progress func(what string)
	report   *Report
	shape    shape // of the store's puts, found once
	width    int   // documents in flight in the driver, found once
	sent     int   // documents sent through the line so far
	archived bool  // archives were there before
}

// Run measures. progress is told what is going on, and may be nil. Cancelling ctx ends the
// run, which then still removes what it made.
func Run(ctx context.Context, c Config, t Target, progress func(what string)) (_ *Report, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(string) {}
	}
	r := &run{
		Config: c, Target: t, progress: progress,
		id: strings.ToLower(rand.Text()[:idLength]), report: &Report{Began: time.Now().UTC(), Params: paramsOf(c, t), Host: t.Host},
	}
	r.report.Run = r.id
	if c.Remove {
		if err := r.lookBefore(ctx); err != nil {
			return nil, err
		}
		defer r.removeDocuments(ctx, &err)
	}
	r.report.Host.LoadBefore = load()
	if err := r.limits(ctx, false); err != nil {
		return nil, err
	}
	if c.has(PhaseLine) {
		if err := r.line(ctx); err != nil {
			return nil, fmt.Errorf("measure the line: %w", err)
		}
	}
	if c.has(PhaseLatency) {
		for _, rate := range c.Rates {
			if err := r.latency(ctx, rate); err != nil {
				return nil, fmt.Errorf("measure the latency at %g/s: %w", rate, err)
			}
		}
	}
	if c.has(PhaseLine) {
		if err := r.limits(ctx, true); err != nil {
			return nil, err
		}
	}
	r.report.Host.LoadAfter = load()
	r.report.Took = time.Since(r.report.Began).Seconds()
	r.report.settle()
	return r.report, nil
}

// idLength is the number of letters and digits that tell runs apart.
const idLength = 8

// limits measures broker, store and driver.
func (r *run) limits(ctx context.Context, after bool) error {
	when := "before"
	if after {
		when = "after"
	}
	for _, l := range []struct {
		phase   Phase
		measure func(ctx context.Context, after bool) (float64, error)
		into    *Limit
	}{
		{PhaseBroker, r.broker, &r.report.Broker},
		{PhaseStore, r.store, &r.report.Store},
		{PhaseDriver, r.driver, &r.report.Driver},
	} {
		if !r.has(l.phase) {
			continue
		}
		r.progress(fmt.Sprintf("limit of the %s, %s the line", l.phase, when))
		rate, err := l.measure(ctx, after)
		if err != nil {
			return fmt.Errorf("measure the limit of the %s: %w", l.phase, err)
		}
		l.into.set(after, rate)
		if err := r.rest(ctx); err != nil {
			return err
		}
	}
	return nil
}

// rest waits until the store has written what the clean-up left it to write, so that it is
// not part of what is measured next.
func (r *run) rest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restFor)
	defer cancel()
	return r.Objects.Ready(ctx)
}
