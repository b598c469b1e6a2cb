package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/jobspy/millrace/deploy/millrace/chaos/audit"
)

// Settings say how long and how hard the line is hurt.
type Settings struct {
	Config
	Plan
	Rate  float64       // documents a second
	Sound bool          // nothing is sent that ends as a dead letter
	Drain time.Duration // for the line to come to rest after the load has stopped; 0 means DefaultDrain
	// Stuck ends the wait for rest when nothing has moved for so long, 0 means never. Only a run
	// that is to get stuck sets it: a killing document stands still until its last delivery.
	Stuck time.Duration
	// Events replace those that are drawn, where there are any.
	Events []Event
	// Tamper changes the broker after it is provisioned; nil leaves it.
	Tamper func(ctx context.Context, js jetstream.JetStream) error
	// Replay says whether the dead letters are sent through the line again at the end.
	Replay bool
}

// DefaultDrain is how long the line may take to come to rest. A killing document is delivered
// to the end of its deliveries before it is a dead letter.
const DefaultDrain = 10 * time.Minute

// forgotten is how long all queues are empty before what has not ended is taken for lost. A
// document is in some queue until its end is in its stream, where the tail sees it soon.
const forgotten = 5 * time.Second

// readers is how many objects the witness reads at the same time.
const readers = 16

// run is one run.
type run struct {
	Settings
	name    string
	rig     *rig
	load    *audit.Load
	ledger  *audit.Ledger
	began   time.Time
	loaded  time.Duration // from then until nothing new was sent
	killers atomic.Int64

	measuring sync.WaitGroup // of how long the line takes to recover
	rested    chan struct{}  // closed when there is nothing to wait for any more

	mu     sync.Mutex
	faults []Injected
}

// Injected is a fault as it was made.
type Injected struct {
	Event
	Err      error
	InFlight []string      // documents that were accepted and had not ended, by file_id
	Recovery time.Duration // from when it was healed until all of these had ended; below zero: they have not
}

// Run starts the line, hurts it under load and says what became of the documents. An error
// says that it could not be tried; what the line got wrong is in the report.
func Run(ctx context.Context, s Settings) (*Report, error) {
	events := s.Events
	if len(events) == 0 {
		events = Schedule(s.Plan)
	}
	_, _ = fmt.Fprintf(s.Out, "seed %d, %s, %d faults in %s, %.0f documents a second\n", s.Seed, s.Topology, len(events), s.For, s.Rate)
	r := newRun(s, fmt.Sprintf("s%d", s.Seed%1e6))
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	defer r.rig.close()

	r.hurt(ctx, events)
	report := &Report{Settings: s, Loaded: r.loaded}
	stuck := r.settle(ctx)
	close(r.rested)
	r.measuring.Wait()
	report.Faults = r.faults
	report.Drained = time.Since(r.began) - report.Loaded
	if err := r.check(ctx, report, stuck); err != nil {
		return report, err
	}
	return report, ctx.Err()
}

func newRun(s Settings, name string) *run {
	return &run{Settings: s, name: name, rested: make(chan struct{})}
}

// begin starts the line and whoever looks on. The rig is to be closed.
func (r *run) begin(ctx context.Context) (err error) {
	if r.rig, err = start(ctx, r.Config, r.Plan, r.Rate); err != nil {
		return fmt.Errorf("start the line: %w", err)
	}
	if r.Tamper != nil {
		if err := r.Tamper(ctx, r.rig.js); err != nil {
			r.rig.close()
			return fmt.Errorf("tamper with the line: %w", err)
		}
	}
	r.ledger = audit.NewLedger()
	r.load = &audit.Load{JS: r.rig.js, Ledger: r.ledger, Run: r.name, Rate: r.Rate, Sound: r.Sound}
	watching, unwatch := context.WithCancel(ctx)
	var tail sync.WaitGroup
	tail.Go(func() { audit.Tail(watching, r.rig.js, r.ledger) })
	r.rig.end = append(r.rig.end, func() { unwatch(); tail.Wait() })
	return nil
}

// hurt makes the load and the faults, and returns when both have ended. How long the line
// takes to recover is measured until r.rested is closed.
func (r *run) hurt(ctx context.Context, events []Event) {
	r.began = time.Now()
	loading, stop := context.WithCancel(ctx)
	halt, give := context.WithCancel(ctx)
	var load, faults sync.WaitGroup
	load.Go(func() { r.load.Go(loading, halt) })
	for _, e := range events {
		if wait(ctx, time.Until(r.began.Add(e.At))) != nil {
			break
		}
		faults.Go(func() { r.one(ctx, e) })
	}
	_ = wait(ctx, time.Until(r.began.Add(r.For)))
	stop()
	r.loaded = time.Since(r.began)
	faults.Wait()
	timer := time.AfterFunc(startWait, give) // whatever is still refused then is unknown
	load.Wait()
	timer.Stop()
	give()
}

// one makes a fault and heals it.
func (r *run) one(ctx context.Context, e Event) {
	ids := r.ledger.InFlight()
	_, _ = fmt.Fprintf(r.Out, "%7.1fs %s, %d in flight\n", time.Since(r.began).Seconds(), e, len(ids))
	i := Injected{Event: e, InFlight: ids, Err: r.inject(ctx, e)}
	r.measuring.Go(func() { r.measure(i, time.Now()) })
}

// measure waits until all that was in flight when a fault was made has ended.
func (r *run) measure(i Injected, healed time.Time) {
	t := time.NewTicker(3 * poll)
	defer t.Stop()
	ids := r.ledger.Remain(i.InFlight)
	for rested := false; len(ids) > 0 && !rested; ids = r.ledger.Remain(ids) {
		select {
		case <-r.rested:
			rested = true
		case <-t.C:
		}
	}
	i.Recovery = time.Since(healed)
	if len(ids) > 0 {
		i.Recovery = -1
	}
	r.mu.Lock()
	r.faults = append(r.faults, i)
	r.mu.Unlock()
}

func (r *run) drain() time.Duration {
	if r.Drain > 0 {
		return r.Drain
	}
	return DefaultDrain
}

// settle waits until the line is at rest and returns why it is not when the time is over.
func (r *run) settle(ctx context.Context) error {
	quiet, since := 0, time.Time{}
	var stuck error
	moves := still{since: time.Now()}
	err := await(ctx, r.drain(), "the line to come to rest", func(ctx context.Context) error {
		depths, err := audit.Depths(ctx, r.rig.js)
		if err != nil {
			return err
		}
		if d := moves.look(len(r.ledger.InFlight()), depths); r.Stuck > 0 && d > r.Stuck {
			stuck = fmt.Errorf("nothing has moved for %s, the queues hold %v", d.Round(time.Second), depths)
			return nil
		}
		n := len(r.ledger.InFlight())
		if len(depths) > 0 {
			quiet, since = 0, time.Time{}
			return fmt.Errorf("%d documents have not ended, the queues hold %v", n, depths)
		}
		if since.IsZero() {
			since = time.Now()
		}
		if n > 0 && time.Since(since) < forgotten {
			return fmt.Errorf("%d documents have not ended, and no queue holds any", n)
		}
		if quiet++; quiet < 5 {
			return errors.New("it was at rest for a moment only")
		}
		return nil
	})
	return errors.Join(err, stuck)
}

// still tells how long nothing has moved.
type still struct {
	since time.Time
	last  string
}

// look returns how long what it is shown has been the same.
func (s *still) look(inFlight int, depths map[string]int) time.Duration {
	if now := fmt.Sprint(inFlight, depths); now != s.last {
		s.since, s.last = time.Now(), now
	}
	return time.Since(s.since)
}

// check lets the witness look at everything, before and after the dead letters are replayed.
func (r *run) check(ctx context.Context, report *Report, stuck error) error {
	c := audit.Checker{JS: r.rig.js, Store: r.rig.s3, Ledger: r.ledger, Readers: readers}
	if stuck != nil {
		report.Violations = append(report.Violations, audit.Violation{Invariant: audit.Emptied, FileID: "the line", Detail: stuck.Error()})
	}
	report.Counts = r.ledger.Counts()
	if r.Replay && stuck == nil {
		if err := r.replay(ctx, &c, report); err != nil {
			return err
		}
	}
	if out, err := r.rig.command(ctx, "archive", "run", "--now"); err != nil {
		report.Violations = append(report.Violations, audit.Violation{Invariant: audit.Archived, FileID: "archive", Detail: fmt.Sprintf("%v\n%s", err, out)})
	}
	found, err := c.Check(ctx)
	if err != nil {
		return fmt.Errorf("check the line: %w", err)
	}
	report.Violations = append(report.Violations, found.Violations...)
	report.Found = *found
	for name, p := range r.rig.stages {
		killed, exits := p.crashes()
		report.Killed += killed
		for _, e := range exits {
			report.Violations = append(report.Violations, audit.Violation{Invariant: Alive, FileID: name, Detail: e})
		}
	}
	if r.rig.line != nil {
		report.Killed, _ = r.rig.line.crashes()
	}
	if out, err := r.rig.command(ctx, "archive", "verify"); exitCode(err) != 0 && exitCode(err) != 3 {
		report.Violations = append(report.Violations, audit.Violation{
			Invariant: audit.Archived, FileID: "archive", Detail: fmt.Sprintf("%v\n%s", err, strings.TrimSpace(out)),
		})
	}
	return nil
}

// Alive is the invariant that the suite adds to those of the witness.
const Alive audit.Invariant = "no stage ends by itself"

// replay sends all dead letters through the line again and checks that each ends.
func (r *run) replay(ctx context.Context, c *audit.Checker, report *Report) error {
	letters, err := c.Letters(ctx)
	if err != nil || len(letters) == 0 {
		return err
	}
	// A document that killed its process is sound from now on.
	if err := os.Remove(filepath.Join(r.rig.points, "poison")); err != nil {
		return fmt.Errorf("disarm: %w", err)
	}
	if _, err := r.rig.command(ctx, "dlq", "replay", "--yes", "--detach"); err != nil {
		return err
	}
	var missing []audit.Violation
	err = await(ctx, r.drain(), "the replays to end", func(ctx context.Context) error {
		if missing, err = c.CheckReplays(ctx, letters); err != nil {
			return err
		}
		if len(missing) > 0 {
			return fmt.Errorf("%d have not", len(missing))
		}
		return nil
	})
	report.Replayed = len(letters)
	if err != nil {
		report.Violations = append(report.Violations, missing...)
	}
	if err := r.settle(ctx); err != nil {
		report.Violations = append(report.Violations, audit.Violation{Invariant: audit.Emptied, FileID: "the line", Detail: err.Error()})
	}
	return nil
}
