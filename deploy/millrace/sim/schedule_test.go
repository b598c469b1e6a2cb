package sim

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/contract"
)

// op is a kind of call of a stage on the broker or the store.
type op string

const (
	opPublish  op = "publish"
	opSchedule op = "schedule"
	opRead     op = "kv-read"
	opWrite    op = "kv-write"
	opPut      op = "put"
	opResult   op = "put-result" // of an object that is written anew when more is known
	opFetch    op = "fetch"      // reads an object, or looks it up
	opAck      op = "ack"
	opDeliver  op = "deliver"
)

// kind is what goes wrong with a call.
type kind string

const (
	crashBefore kind = "crash-before" // the process dies, nothing has happened
	crashAfter  kind = "crash-after"  // the process dies, it has happened and nobody knows
	refused     kind = "refused"      // nothing has happened, and that is said
	lost        kind = "answer-lost"  // it has happened, and the answer is lost
	slow        kind = "slow"         // it happens later, the caller waits
	late        kind = "late"         // it happens later, and the caller was told that nobody answers
	twice       kind = "twice"        // of a delivery: it comes once more at the same time
	held        kind = "held"         // of a delivery: it comes later, behind others
)

// mishap is one thing that goes wrong: with call number nth of a kind by a stage for a document.
type mishap struct {
	stage contract.Stage
	op    op
	doc   int // index of the document; anyDoc where a call is for none of them
	nth   int // from 0
	kind  kind
	wait  time.Duration // of slow, late and held
}

// anyDoc is the document of a call that belongs to none.
const anyDoc = -1

func (f mishap) String() string {
	s := fmt.Sprintf("%s %s #%d of %s: %s", f.stage, f.op, f.nth, docName(f.doc), f.kind)
	if f.wait > 0 {
		s += " " + f.wait.String()
	}
	return s
}

// plight is a state that lasts.
type plight string

const (
	brokerOut plight = "broker-out"
	storeOut  plight = "store-out"
	queueFull plight = "queue-full" // every stage queue refuses
	crashed   plight = "crash"      // of one process, at a moment
	stopped   plight = "stop"       // of one process, in order, at a moment
	frozen    plight = "freeze"     // of one process: it goes on later as if nothing had been
)

// span is a plight and when it is.
type span struct {
	kind    plight
	process int // of crashed, stopped and frozen
	at      time.Duration
	lasts   time.Duration
}

func (s span) String() string {
	return fmt.Sprintf("%s of process %d at %s for %s", s.kind, s.process, s.at, s.lasts)
}

// How the stages are spread over processes.
const (
	layoutOne   = "one"   // all stages in one process
	layoutEach  = "each"  // each stage in a process of its own
	layoutTwins = "twins" // two processes with all stages
)

// When things happen, in virtual time from the start.
const (
	publishWithin = 40 * time.Second
	replayAt      = 2 * time.Minute
	faultsEnd     = 4 * time.Minute
)

// schedule is everything that is decided before a run begins.
type schedule struct {
	seed       uint64
	layout     string
	vars       map[string]string
	maxDeliver int
	midnight   bool // the run begins shortly before midnight, so that a day is archived
	poison     int  // the document that kills its process each time; anyDoc for none
	docs       []document
	mishaps    []mishap
	spans      []span
	source     []reply // what the source answers, in turn
}

// newSchedule makes the schedule of a seed. It is a pure function: nothing but the seed counts.
func newSchedule(seed uint64) schedule {
	r := rand.New(rand.NewPCG(seed, 0x6d696c6c72616365)) //nolint:gosec // it has to come again
	s := schedule{seed: seed, maxDeliver: 20, poison: anyDoc, vars: map[string]string{
		"SOURCE_GREENHOUSE_URL": sourceURL, "SOURCE_GREENHOUSE_BOARDS": "acme,initech", "GIVE_WAY": "0s",
		"DRAIN_TIMEOUT": "2s",
	}}
	s.layout = pick(r, layoutOne, layoutOne, layoutEach, layoutTwins)
	if r.IntN(2) == 0 {
		s.vars["CLAIM_CHECK_BYTES"] = "1024"
	}
	if r.IntN(3) == 0 {
		s.vars["STORE_VIEWS"] = "by_date"
	}
	if r.IntN(2) == 0 {
		s.vars["ROUTE_SOURCES"] = "greenhouse|nowhere"
	}
	s.midnight = r.IntN(16) == 0
	if s.midnight {
		s.vars["ARCHIVE_PART_DOCUMENTS"] = pick(r, "2", "10000")
	}
	s.docs = newDocuments(r)
	if r.IntN(10) == 0 {
		s.poison, s.maxDeliver = 0, 6
		s.docs[0] = poisoned(s.docs[0])
	}
	mishaps := 2 + r.IntN(12)
	if r.IntN(8) == 0 { // everything at once
		mishaps = 40 + r.IntN(60)
	}
	for range mishaps {
		s.mishaps = append(s.mishaps, newMishap(r, len(s.docs)))
	}
	for range r.IntN(4) {
		s.spans = append(s.spans, newSpan(r, s.processes()))
	}
	for range 6 {
		s.source = append(s.source, newReply(r))
	}
	return s
}

// takes returns how long call number n of a kind takes. It follows from the seed, and so does
// for the most part who comes first.
func (s *schedule) takes(c call3, n int) time.Duration {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s %s %d %d", s.seed, c.stage, c.op, c.doc, n)
	r := rand.New(rand.NewPCG(h.Sum64(), s.seed)) //nolint:gosec // it has to come again
	most := 4 * time.Millisecond
	if r.IntN(12) == 0 {
		most = 400 * time.Millisecond
	}
	return time.Duration(1 + r.Int64N(int64(most)))
}

// processes returns how many processes there are.
func (s *schedule) processes() int {
	switch s.layout {
	case layoutEach:
		return len(contract.Stages())
	case layoutTwins:
		return 2
	default:
		return 1
	}
}

// stages returns the stages that process number n runs.
func (s *schedule) stages(n int) []contract.Stage {
	if s.layout == layoutEach {
		return contract.Stages()[n : n+1]
	}
	return contract.Stages()
}

func newMishap(r *rand.Rand, docs int) mishap {
	f := mishap{stage: pick(r, contract.Stages()...), doc: r.IntN(docs)}
	if r.IntN(12) == 0 {
		f.doc = anyDoc
	}
	f.op = pick(r, opPublish, opPublish, opSchedule, opRead, opWrite, opWrite, opPut, opPut, opResult, opFetch, opAck, opDeliver)
	f.nth = min(r.IntN(4), r.IntN(4)) // mostly the first
	switch f.op {
	case opDeliver:
		f.kind = pick(r, twice, held, held)
	case opRead, opFetch:
		f.kind = pick(r, crashBefore, refused, refused, slow)
	case opAck:
		f.kind = pick(r, crashBefore, crashAfter, lost, refused)
	case opResult: // no store without conditions keeps an old write from landing on a new one
		f.kind = pick(r, crashBefore, crashAfter, lost, refused, slow)
	default:
		f.kind = pick(r, crashBefore, crashAfter, crashAfter, lost, lost, refused, slow, late)
	}
	if slices.Contains([]kind{slow, late, held}, f.kind) {
		f.wait = time.Duration(1+r.IntN(45_000)) * time.Millisecond
	}
	return f
}

func newSpan(r *rand.Rand, processes int) span {
	return span{
		kind: pick(r, brokerOut, storeOut, queueFull, crashed, crashed, stopped, frozen), process: r.IntN(processes),
		at:    time.Duration(r.IntN(60_000)) * time.Millisecond,
		lasts: time.Duration(100+r.IntN(70_000)) * time.Millisecond,
	}
}

// pick returns one of some values.
func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// String writes the schedule as a person reads it.
func (s *schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: stages in %q, at most %d deliveries, begins before midnight: %v\n", s.seed, s.layout, s.maxDeliver, s.midnight)
	names := make([]string, 0, len(s.vars))
	for name, value := range s.vars {
		names = append(names, name+"="+value)
	}
	slices.Sort(names)
	fmt.Fprintf(&b, "  settings %s\n", strings.Join(names, " "))
	for i := range s.docs {
		fmt.Fprintf(&b, "  document %s\n", s.docs[i].String())
	}
	for _, f := range s.mishaps {
		fmt.Fprintf(&b, "  fault    %s\n", f)
	}
	for _, p := range s.spans {
		fmt.Fprintf(&b, "  plight   %s\n", p)
	}
	for i, a := range s.source {
		fmt.Fprintf(&b, "  source   answer %d: %s\n", i, a)
	}
	return b.String()
}
