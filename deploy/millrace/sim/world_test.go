package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/letters"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/topology"
)

const (
	// look is how often it is asked whether everything is quiet, and patience for how long.
	look     = 5 * time.Second
	patience = 3 * time.Hour
	// beforeMidnight is when a run begins that archives a day. The bubble's clock begins at
	// midnight.
	beforeMidnight = 24*time.Hour - 3*time.Minute
	// dayArchived is how long after midnight the day before is surely archived.
	dayArchived = 12 * time.Minute
)

// metrics are those of all runs: nobody looks at them.
var metrics = sync.OnceValue(func() *stage.Metrics {
	return stage.NewMetrics(prometheus.NewRegistry(), contract.Stages()...)
})

// world is one run of a schedule. Everything but the embedded schedule is used concurrently.
type world struct {
	schedule

	bug    bug
	bus    *bus.Memory
	store  *store.Memory
	source *source
	log    zerolog.Logger
	began  time.Time

	processes []*process
	working   sync.WaitGroup // whatever is not a stage's
	pending   atomic.Int64   // what is still to happen later

	mu       sync.Mutex
	calm     bool                 // nothing goes wrong any more
	calls    map[call3]int        // how often each was made
	until    map[plight]time.Time // when the plights of the whole world end
	accepted []accepted           // what the broker took from producers
	replayed map[string]int       // by file_id: the highest replay count sent
	trace    []event
	failures []string
}

// call3 is what faults are counted by.
type call3 struct {
	stage contract.Stage
	op    op
	doc   int
}

// accepted is a message that a producer got the broker's receipt for.
type accepted struct {
	document
	stored *bus.Stored
}

func newWorld(s schedule, b bug) *world {
	w := &world{
		schedule: s, bug: b, source: &source{replies: s.source}, store: store.NewMemory(time.Now), log: zerolog.Nop(),
		calls: map[call3]int{}, until: map[plight]time.Time{}, replayed: map[string]int{},
	}
	plan := topology.Plan(topology.Options{MaxDeliver: s.maxDeliver})
	w.bus = bus.NewMemory(plan.Streams, plan.Buckets)
	return w
}

// run lives through the schedule and returns what is wrong in the end.
func (w *world) run() []string {
	ctx := context.Background()
	if w.midnight {
		_ = sleep(ctx, beforeMidnight)
	}
	w.began = time.Now()
	w.must(topology.StartMemory(ctx, w.bus, topology.Plan(topology.Options{MaxDeliver: w.maxDeliver})))
	for _, bucket := range contract.Buckets() {
		_, err := w.store.EnsureBucket(ctx, bucket)
		w.must(err)
	}
	running, stop := context.WithCancel(ctx)
	var processes sync.WaitGroup
	for n := range w.schedule.processes() {
		p := &process{world: w, number: n, stages: w.stages(n)}
		w.processes = append(w.processes, p)
		processes.Go(func() { p.run(running) })
	}
	for i := range w.docs {
		w.later(w.docs[i].at, func() { w.publish(w.docs[i]) })
	}
	for _, s := range w.spans {
		w.later(s.at, func() { w.befall(s) })
	}
	w.later(replayAt, w.replay)
	_ = sleep(ctx, faultsEnd)
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	w.note(nil, "nothing goes wrong any more")
	w.quiet(ctx)
	stop()
	processes.Wait()
	w.working.Wait()
	w.check(ctx)
	w.must(w.bus.Close())
	return w.failures
}

// publish is what a producer does: it repeats what it has no receipt for.
func (w *world) publish(d document) {
	ctx := context.Background()
	r, err := w.bus.Publish(ctx, d.message())
	w.must(err)
	m, err := w.bus.Get(ctx, r.Stream, r.Seq)
	if errors.Is(err, bus.ErrNotFound) { // a stage was faster
		w.fail("the message of %s is gone before its producer could look", docName(d.index))
		return
	}
	w.must(err)
	w.note(&d.index, "published as message %d", r.Seq)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.accepted = append(w.accepted, accepted{document: d, stored: m})
}

// befall brings a plight.
func (w *world) befall(s span) {
	w.note(nil, "%s", s)
	var l *life
	if w.isCalm() {
		return
	}
	if s.process < len(w.processes) {
		l = w.processes[s.process].now()
	}
	switch s.kind {
	case brokerOut, storeOut, queueFull:
		w.mu.Lock()
		w.until[s.kind] = time.Now().Add(s.lasts)
		w.mu.Unlock()
	case crashed:
		l.crash("by itself")
	case stopped:
		l.stop()
	case frozen:
		l.freeze(s.lasts)
	}
}

// in reports whether a plight of the whole world lasts.
func (w *world) in(p plight) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.calm && time.Now().Before(w.until[p])
}

// out reports whether nobody answers a call.
func (w *world) out(o op) bool {
	if o == opPut || o == opResult || o == opFetch {
		return w.in(storeOut)
	}
	return w.in(brokerOut)
}

func (w *world) full() bool { return w.in(queueFull) }

// back returns how long the broker is still out.
func (w *world) back() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Until(w.until[brokerOut])
}

func (w *world) isCalm() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calm
}

// next counts a call and returns what goes wrong with it, nil where nothing does, and how long
// it takes.
func (w *world) next(s contract.Stage, o op, d *int) (*mishap, time.Duration) {
	key := call3{s, o, anyDoc}
	if d != nil {
		key.doc = *d
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.calls[key]
	w.calls[key]++
	takes := w.takes(key, n)
	if w.calm {
		return nil, takes
	}
	for i := range w.mishaps {
		f := &w.mishaps[i]
		if f.stage == s && f.op == o && f.doc == key.doc && f.nth == n {
			return f, takes
		}
	}
	return nil, takes
}

// docOf finds which document a text names; nil where it is none.
func (w *world) docOf(text string) *int {
	for i := range w.docs {
		if id := w.docs[i].fileID; id != "" && strings.Contains(text, id) {
			return &w.docs[i].index
		}
	}
	return nil
}

// replay sends every dead letter through the line once more, as an operator does.
func (w *world) replay() {
	ctx := context.Background()
	book, err := ledger.OpenLedger(ctx, w.bus, time.Hour, time.Now)
	w.must(err)
	q := letters.Queue{Bus: w.bus, Ledger: book, Store: func(context.Context) (store.Store, error) { return w.store, nil }}
	all, err := q.List(ctx, letters.Filter{})
	w.must(err)
	for _, l := range all {
		r, err := q.Send(ctx, l.Seq, letters.Replay{})
		w.note(w.docOf(r.FileID), "replay %d of dead letter %d, %s: %v", r.Count, r.Seq, r.FileID, brief(err))
		if err == nil {
			w.mu.Lock()
			w.replayed[r.FileID] = r.Count
			w.mu.Unlock()
		}
	}
}

// quiet waits until nothing is in any queue, or on its way to one.
func (w *world) quiet(ctx context.Context) {
	if w.midnight {
		_ = sleep(ctx, dayArchived)
	}
	for waited := time.Duration(0); waited < patience; waited += look {
		if w.pending.Load() == 0 && w.queues(ctx) == "" {
			return
		}
		_ = sleep(ctx, look)
	}
}

// queues says what is in the queues, empty where nothing is.
func (w *world) queues(ctx context.Context) string {
	var left []string
	streams := []string{contract.StreamRetry}
	for _, s := range contract.Stages() {
		streams = append(streams, contract.StageStream(s))
	}
	for _, stream := range streams {
		for m, err := range w.bus.Scan(ctx, stream, "", 0) {
			w.must(err)
			if !strings.HasPrefix(m.Subject, contract.RootCron) && m.Header[contract.HeaderTimer] != contract.CronArchive {
				left = append(left, fmt.Sprintf("%s: message %d, %s", stream, m.Seq, about(m.Subject, m.Header)))
			}
		}
	}
	return strings.Join(left, "\n")
}

func (w *world) must(err error) {
	if err != nil {
		w.fail("%v", err)
	}
}
