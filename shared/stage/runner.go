package stage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"github.com/jobspy/millrace/shared/announce"
	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/slot"
	"github.com/jobspy/millrace/shared/store"
)

// ErrStop is the cause with which work in hand is cancelled when a stage stops.
var ErrStop = errors.New("the stage is stopping")

// Settings is what a runner is told by code.
type Settings struct {
	Stage   contract.Stage
	Handler Handler
	Deps    Deps
	Config  Config
	Metrics *Metrics
	// Process is shared by all runners of one process; nil gives the runner its own.
	Process *Process
	// Witness is told what all stages announce as stored. Nil where the handler does not ask.
	Witness *announce.Witness
}

// Process is what the runners of one process share. The zero value is ready for use.
type Process struct {
	turns  turns         // a document that may have crashed the process runs while nothing else does
	ledger ledger.Recent // what they wrote into the ledger
}

// Runner runs one stage. Run may be called once.
type Runner struct {
	Settings
	log   zerolog.Logger
	slots *semaphore.Weighted
	queue *queue
	gate  *gate
	marks *bus.Bound // of messages that ran alone

	acks *acks // of what is done; set by Run

	answerless atomic.Bool // the last answer was kept by no stream

	mu    sync.Mutex
	held  map[*work]struct{} // delivered and not settled: these get heartbeats
	bound bool

	working sync.WaitGroup
}

// work is a delivery in hand.
type work struct {
	bus.Delivery
	runner *Runner
}

// NewRunner makes a runner.
func NewRunner(s Settings) *Runner {
	if s.Process == nil {
		s.Process = &Process{}
	}
	return &Runner{
		Settings: s,
		log:      s.Deps.Log.With().Str("stage", string(s.Stage)).Logger(),
		slots:    semaphore.NewWeighted(int64(s.Config.MaxConcurrentTasks)),
		queue:    newQueue(), gate: newGate(), marks: bus.Bind(s.Deps.Bus, contract.KVCache), held: map[*work]struct{}{},
	}
}

// Run takes and works until ctx ends, then finishes what is in hand within DrainTimeout and
// gives the rest back. It returns an error only where it could not begin.
func (r *Runner) Run(ctx context.Context) error {
	// What is in hand outlives ctx: it is cancelled when the drain time is over.
	inHand, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(ErrStop)

	r.acks = newAcks(inHand, r)
	defer r.acks.close()
	deaf, err := r.listen(ctx)
	if err == nil {
		defer deaf()
	}
	var subs []bus.Subscription
	if err == nil {
		subs, err = r.bind(ctx, inHand)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop before it had begun
		}
		return err
	}
	r.log.Info().Msg("ready")

	beat := make(chan struct{})
	go func() { defer close(beat); r.heartbeat(inHand) }()
	yields := make(chan struct{})
	go func() { defer close(yields); r.yield(ctx) }()

	r.dispatch(ctx, inHand)
	<-yields

	r.log.Info().Msg("draining")
	for _, s := range subs {
		s.Stop()
	}
	r.handBack()
	timer := time.AfterFunc(r.Config.DrainTimeout, func() { cancel(ErrStop) })
	r.working.Wait()
	r.acks.close()
	timer.Stop()
	cancel(ErrStop)
	<-beat
	r.log.Info().Msg("stopped")
	return nil
}

// listen begins to tell the witness, if there is one, what is stored.
func (r *Runner) listen(ctx context.Context) (stop func(), err error) {
	if r.Witness == nil {
		return func() {}, nil
	}
	err = r.hold(ctx, "announcements", func(context.Context) (err error) {
		stop, err = r.Deps.Bus.Listen(contract.RootStored+".*", func(_ string, _ bus.Header, body []byte) { r.Witness.Hear(body) })
		return err
	}, nil)
	return stop, err
}

// bind starts all subscriptions of the stage; it waits for streams and consumers that do
// not exist yet.
func (r *Runner) bind(ctx, inHand context.Context) ([]bus.Subscription, error) {
	var subs []bus.Subscription
	consume := func(stream, consumer string, credits int, fn func(bus.Delivery)) error {
		return r.hold(ctx, "consumer "+consumer, func(ctx context.Context) error {
			s, err := r.Deps.Bus.Consume(ctx, stream, consumer, credits, fn)
			if err == nil {
				subs = append(subs, s)
			}
			return err
		}, nil)
	}
	add := func(lane contract.Lane) func(bus.Delivery) {
		return func(d bus.Delivery) { r.queue.put(lane, r.take(d)) }
	}
	err := consume(contract.StreamRetry, contract.DueConsumer(r.Stage), r.Config.Prefetch, add(due))
	for _, lane := range contract.Lanes() {
		if err == nil {
			err = consume(contract.StageStream(r.Stage), contract.Consumer(r.Stage, lane), r.Config.Prefetch, add(lane))
		}
	}
	if err == nil {
		err = consume(contract.StreamAdvisory, contract.AdvisoryConsumer(r.Stage), 1, func(d bus.Delivery) {
			w := r.take(d)
			r.working.Go(func() { r.sweep(inHand, w) })
		})
	}
	if err != nil {
		for _, s := range subs {
			s.Stop()
		}
		r.handBack()
		return nil, fmt.Errorf("bind %s: %w", r.Stage, err)
	}
	r.mu.Lock()
	r.bound = true
	r.mu.Unlock()
	return subs, nil
}

// dispatch hands work to goroutines, as many at once as there are slots, until ctx ends.
func (r *Runner) dispatch(ctx, inHand context.Context) {
	for {
		if r.gate.wait(ctx) != nil || r.queue.await(ctx) != nil || sleep(ctx, r.gate.ramp()) != nil {
			return
		}
		// The slot comes last: who waits for work with one keeps it from who has some.
		if r.slots.Acquire(ctx, 1) != nil {
			return
		}
		var w *work
		var lane contract.Lane
		if !r.gate.closed() { // it may have, while there was no slot
			w, lane = r.queue.next()
		}
		if w == nil {
			r.slots.Release(1)
			continue
		}
		doing := inHand
		switch {
		case lane == contract.High:
			doing = store.Urgent(inHand)
		case r.busy():
			doing = bus.Gather(inHand)
		}
		r.working.Go(func() {
			s := slot.New(r.slots)
			defer s.Release()
			r.process(doing, w, s)
		})
	}
}

// muchInHand is the number of messages in hand from which it matters more how many are done
// than how soon each one is.
const muchInHand = 24

// busy reports whether there is much in hand.
func (r *Runner) busy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.held) >= muchInHand
}

// take puts a delivery under heartbeats.
func (r *Runner) take(d bus.Delivery) *work {
	w := &work{Delivery: d, runner: r}
	r.mu.Lock()
	r.held[w] = struct{}{}
	r.mu.Unlock()
	r.Metrics.inHand(r.Stage, 1)
	return w
}

// leave ends the heartbeats of a delivery.
func (w *work) leave() {
	r := w.runner
	r.mu.Lock()
	_, held := r.held[w]
	delete(r.held, w)
	r.mu.Unlock()
	if held {
		r.Metrics.inHand(r.Stage, -1)
	}
}

// handBack returns what was delivered and not begun.
func (r *Runner) handBack() {
	for _, w := range r.queue.drain() {
		w.giveBack()
	}
}

// giveBack returns the delivery for somebody else, at once.
func (w *work) giveBack() {
	if err := w.Nak(); err != nil {
		w.runner.log.Debug().Err(err).Msg("could not hand a message back; it comes again by itself")
	}
	w.leave()
}

// heartbeat keeps the broker from handing out again what is in hand.
func (r *Runner) heartbeat(ctx context.Context) {
	t := time.NewTicker(r.Config.Heartbeat)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		r.mu.Lock()
		all := make([]*work, 0, len(r.held))
		for w := range r.held {
			all = append(all, w)
		}
		r.mu.Unlock()
		for _, w := range all {
			if err := w.Progress(); err != nil {
				r.log.Debug().Err(err).Msg("heartbeat did not go out")
				break
			}
		}
	}
}

// Ready returns what keeps the stage from working, by name; empty means it works.
func (r *Runner) Ready(ctx context.Context) map[string]error {
	problems := r.gate.problems()
	r.mu.Lock()
	bound := r.bound
	r.mu.Unlock()
	if !bound {
		problems["consumers"] = errors.New("not bound yet")
	}
	if err := r.unkept(); err != nil {
		problems["answers"] = err
	}
	if err := r.Deps.Bus.Ready(ctx); err != nil {
		problems["broker"] = err
	}
	if err := r.Deps.Store.Ready(ctx); err != nil {
		problems["store"] = err
	}
	return problems
}

// messageID is the idempotency key of output number index of a piece of work.
func (r *Runner) messageID(d *doc.Document, index int) string {
	return fmt.Sprintf("%s:%s:%d:r%d", d.WorkID(), r.Stage, index, d.Replay)
}
