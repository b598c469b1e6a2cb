package sim

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/jobspy/millrace/deploy/millrace/line"
	"github.com/jobspy/millrace/shared/config"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/stages/enrich"
	"github.com/jobspy/millrace/stages/scrape"
	"github.com/jobspy/millrace/stages/validate"
)

// restartAfter is how long a process stays away after a crash or a stop.
const restartAfter = 3 * time.Second

var (
	errDead    = fault.Down(errors.New("the process is dead"))
	errRefused = fault.Down(errors.New("it does not answer"))
	errLost    = fault.Down(errors.New("the answer was lost"))
)

// process is one process with some stages, that comes back whenever it has ended.
type process struct {
	world  *world
	number int
	stages []contract.Stage

	mu   sync.Mutex
	life *life // the present one; nil between two
}

// life is a process from a start to its end. When it is cut off nothing that it does has an
// effect any more: its goroutines only come to their end.
type life struct {
	process *process
	dead    chan struct{}      // closed by a crash
	stop    context.CancelFunc // asks the stages to end in order

	mu     sync.Mutex
	gone   bool
	frozen time.Time // until when nothing of it goes on
	cuts   []func()  // what a crash cuts off
}

// run lives one life after the other until ctx ends.
func (p *process) run(ctx context.Context) {
	for ctx.Err() == nil {
		p.live(ctx)
		_ = sleep(ctx, restartAfter) // ctx is asked above
	}
}

// live runs the stages until ctx ends or something ends them.
func (p *process) live(ctx context.Context) {
	running, stop := context.WithCancel(ctx)
	defer stop()
	l := &life{process: p, dead: make(chan struct{}), stop: stop}
	p.mu.Lock()
	p.life = l
	p.mu.Unlock()
	p.world.note(nil, "process %d starts", p.number)
	shared := &stage.Process{}
	var stages sync.WaitGroup
	for _, d := range p.world.definitions(l) {
		stages.Go(func() {
			layer := &layer{world: p.world, life: l, stage: d.Stage}
			r, err := d.Runner(running, stage.Shared{
				Vars: maps.Clone(p.world.vars), Bus: &faultyBus{Bus: p.world.bus, layer: layer},
				Store: &faultyStore{Store: p.world.store, layer: layer}, Metrics: metrics(), Process: shared,
				Clock: time.Now, Log: p.world.log.With().Int("process", p.number).Logger(),
			})
			if err == nil {
				err = r.Run(running)
			}
			if err != nil && running.Err() == nil {
				p.world.fail("process %d, stage %s: %v", p.number, d.Stage, err)
			}
		})
	}
	stages.Wait()
	p.world.note(nil, "process %d has ended", p.number)
}

// now returns the present life, nil between two.
func (p *process) now() *life {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life
}

// crash ends a life on the spot.
func (l *life) crash(why string) {
	l.mu.Lock()
	first := !l.gone
	l.gone = true
	cuts := l.cuts
	l.cuts = nil
	l.mu.Unlock()
	if !first {
		return
	}
	l.process.world.note(nil, "process %d crashes: %s", l.process.number, why)
	close(l.dead)
	for _, cut := range cuts {
		l.process.world.working.Go(cut) // whoever called may be what is cut off
	}
	l.stop()
}

// onCrash has a crash call cut, which may have happened already.
func (l *life) onCrash(cut func()) {
	l.mu.Lock()
	gone := l.gone
	if !gone {
		l.cuts = append(l.cuts, cut)
	}
	l.mu.Unlock()
	if gone {
		cut()
	}
}

func (l *life) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone
}

// freeze has nothing of the process go on for a while.
func (l *life) freeze(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen = time.Now().Add(d)
}

// thaws returns how long the process is still frozen.
func (l *life) thaws() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Until(l.frozen)
}

// pass returns when the process may go on. Error: it is dead.
func (l *life) pass() error {
	if d := l.thaws(); d > 0 {
		select {
		case <-time.After(d):
		case <-l.dead:
		}
	}
	if l.isDead() {
		return errDead
	}
	return nil
}

// definitions returns the stages of a life: those of the line, but for the network of scrape
// and a document that may kill the process at validate.
func (w *world) definitions(l *life) []stage.Definition {
	mine := map[contract.Stage]bool{}
	for _, s := range l.process.stages {
		mine[s] = true
	}
	var all []stage.Definition
	for _, d := range line.Stages() {
		switch {
		case !mine[d.Stage]:
			continue
		case d.Stage == contract.Scrape:
			d = stage.Define("scrape", scrape.Through(w.source))
		case d.Stage == contract.Validate:
			d = stage.Define("validate", w.deadly(l))
		case d.Stage == contract.Enrich:
			d = stage.Define("enrich", func(context.Context, enrich.Config, stage.Deps) (stage.Handler, error) { return enricher() })
		}
		all = append(all, d)
	}
	return all
}

// Handlers that are pure, and take long to make, are made once for all runs.
var (
	validator = pure(validate.New)
	enricher  = pure(enrich.New)
)

// pure makes a handler that needs nothing, with its settings as they are by default.
func pure[C any](build stage.Build[C]) func() (stage.Handler, error) {
	return sync.OnceValues(func() (stage.Handler, error) {
		c, err := config.Parse[C](map[string]string{})
		if err != nil {
			return nil, err
		}
		return build(context.Background(), c, stage.Deps{})
	})
}

// deadly makes a validate stage whose process dies of the poisoned document.
func (w *world) deadly(l *life) stage.Build[validate.Config] {
	return func(context.Context, validate.Config, stage.Deps) (stage.Handler, error) {
		h, err := validator()
		if w.poison == anyDoc {
			return h, err
		}
		return &victim{Handler: h, life: l, of: fileID(w.poison)}, err
	}
}

// victim is a handler that kills its process on one document.
type victim struct {
	stage.Handler

	life *life
	of   string
}

func (v *victim) Handle(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
	if in.Metadata.FileID == v.of {
		v.life.crash("poison")
		return nil, errDead
	}
	return v.Handler.Handle(ctx, in)
}
