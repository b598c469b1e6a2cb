// Package chaos runs the real programs of the line under load and hurts them: it kills and
// stops processes, cuts and slows their connections, fills disks and makes the object store
// answer wrongly, after a schedule that is drawn from a seed. What the line made of it is
// for the independent witness in package audit to say.
package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jobspy/millrace/shared/failpoint"
)

// Kind is a kind of fault.
type Kind string

// The kinds of faults.
const (
	KillStage      Kind = "kill a stage"
	KillAtPoint    Kind = "kill at a point"
	KillBroker     Kind = "kill the broker"
	KillStore      Kind = "kill the store"
	StopStage      Kind = "stop a stage beyond the ack wait"
	StopBroker     Kind = "stop the broker"
	StopStore      Kind = "stop the store"
	DownAtStart    Kind = "broker and store down at start"
	BrokerLatency  Kind = "broker latency"
	BrokerReset    Kind = "broker connections reset"
	BrokerSilent   Kind = "broker connections half open"
	BrokerDeaf     Kind = "broker answers lost"
	BrokerLate     Kind = "broker answers late, then lost"
	StoreLatency   Kind = "store latency"
	StoreReset     Kind = "store connections reset"
	StoreSilent    Kind = "store connections half open"
	StoreDeaf      Kind = "store answers lost"
	StoreError     Kind = "store answers 500"
	StoreSlowDown  Kind = "store answers 503 SlowDown"
	StoreTruncated Kind = "store truncates bodies"
	StoreLate      Kind = "store writes and answers 500"
	StoreFull      Kind = "store disk full"
	BrokerFull     Kind = "broker disk full"
	Poison         Kind = "a document that kills"
	ClockOffset    Kind = "clock offset"
	Overload       Kind = "overload"
	KillLine       Kind = "kill everything in one process"
	StopLine       Kind = "stop everything in one process"
	Shuffled       Kind = "deliveries late and out of order"
	Repeated       Kind = "deliveries repeated"
	Before         Kind = "a stage of the release before"
)

// trait says how a kind of fault is drawn.
type trait struct {
	kind       Kind
	weight     int           // how often, against the others
	from, to   time.Duration // how long
	staged, up bool          // in which topology
	needs      need          // what not every machine has
}

// need is what a kind of fault cannot be made without.
type need int

const (
	nothing need = iota
	disks        // that can be filled
	before       // the programs of the release before
)

// traits lists all kinds, in a fixed order: the order is part of what a seed means.
func traits() []trait {
	const s = time.Second
	return []trait{
		{KillStage, 8, s / 2, 3 * s, true, false, nothing},
		{KillAtPoint, 10, 4 * s, 8 * s, true, true, nothing},
		{KillBroker, 3, s / 2, 4 * s, true, false, nothing},
		{KillStore, 3, s / 2, 4 * s, true, false, nothing},
		{StopStage, 3, 9 * s, 12 * s, true, false, nothing},
		{StopBroker, 2, 3 * s, 8 * s, true, false, nothing},
		{StopStore, 2, 3 * s, 8 * s, true, false, nothing},
		{DownAtStart, 1, 4 * s, 6 * s, true, false, nothing},
		{BrokerLatency, 2, 3 * s, 6 * s, true, false, nothing},
		{BrokerReset, 3, s, 3 * s, true, false, nothing},
		{BrokerSilent, 3, 3 * s, 8 * s, true, false, nothing},
		{BrokerDeaf, 3, 3 * s, 8 * s, true, false, nothing},
		{StoreLatency, 2, 3 * s, 6 * s, true, false, nothing},
		{StoreReset, 3, s, 3 * s, true, false, nothing},
		{StoreSilent, 3, 3 * s, 8 * s, true, false, nothing},
		{StoreDeaf, 3, 3 * s, 8 * s, true, false, nothing},
		{StoreError, 3, 2 * s, 6 * s, true, false, nothing},
		{StoreSlowDown, 3, 2 * s, 6 * s, true, false, nothing},
		{StoreTruncated, 3, 2 * s, 6 * s, true, false, nothing},
		{StoreLate, 3, 2 * s, 6 * s, true, false, nothing},
		{StoreFull, 1, 3 * s, 6 * s, true, false, disks},
		{BrokerFull, 1, 3 * s, 6 * s, true, false, disks},
		{Poison, 1, s, 2 * s, true, true, nothing},
		{ClockOffset, 2, 5 * s, 8 * s, true, false, nothing},
		{Overload, 2, 3 * s, 5 * s, true, true, nothing},
		{KillLine, 8, s / 2, 3 * s, false, true, nothing},
		{StopLine, 2, 3 * s, 8 * s, false, true, nothing},
		{Shuffled, 2, 3 * s, 6 * s, true, true, nothing},
		{Repeated, 2, 3 * s, 6 * s, true, true, nothing},
		{BrokerLate, 2, 2 * s, 4 * s, true, false, nothing},
		{Before, 2, 8 * s, 15 * s, true, false, before},
	}
}

// Topology is how the line runs.
type Topology string

// The topologies.
const (
	Stages Topology = "stages" // nats-server, MinIO and a process for each stage
	Up     Topology = "up"     // one process
)

// Event is one fault of a schedule.
type Event struct {
	At, For time.Duration // from the beginning of the schedule
	Kind    Kind
	Stage   string          // where it is about a stage
	Point   failpoint.Point // where it is about a point
	Offset  time.Duration   // of the clock
}

func (e Event) String() string {
	s := fmt.Sprintf("%7.1fs %-34s %4.1fs", e.At.Seconds(), e.Kind, e.For.Seconds())
	if e.Stage != "" {
		s += " " + e.Stage
	}
	if e.Point != "" {
		s += " " + string(e.Point)
	}
	if e.Offset != 0 {
		s += " " + e.Offset.String()
	}
	return s
}

// Plan says what a schedule is drawn for.
type Plan struct {
	Seed     uint64
	For      time.Duration // no fault begins later
	Topology Topology
	Disks    bool          // disks can be filled
	Earlier  bool          // there are programs of the release before
	Gap      time.Duration // the longest pause between two faults; 0 means DefaultGap
	Only     []Kind        // where it is not empty, nothing else is drawn
}

// DefaultGap is the longest pause between two faults.
const DefaultGap = 10 * time.Second

const (
	firstAt = 3 * time.Second // the load has begun
	overlap = 2 * time.Second // by how much a fault may begin before the one before it has ended
	// maxOffset is the largest offset of a clock: below the minute that the line allows for.
	maxOffset = 45 * time.Second
)

// Schedule draws the faults. It is a function of the plan: the same plan gives the same
// faults.
func Schedule(p Plan) []Event {
	rnd := rand.New(rand.NewPCG(p.Seed, 0)) //nolint:gosec // it has to be the same each time
	gap := p.Gap
	if gap <= 0 {
		gap = DefaultGap
	}
	kinds := traits()
	total := 0
	kinds = slices.DeleteFunc(kinds, func(k trait) bool {
		fits := (k.staged && p.Topology == Stages || k.up && p.Topology == Up) &&
			(k.needs != disks || p.Disks) && (k.needs != before || p.Earlier)
		return !fits || len(p.Only) > 0 && !slices.Contains(p.Only, k.kind)
	})
	for _, k := range kinds {
		total += k.weight
	}
	var all []Event
	for at := firstAt; at < p.For && total > 0; {
		n := rnd.IntN(total)
		i := slices.IndexFunc(kinds, func(k trait) bool {
			n -= k.weight
			return n < 0
		})
		k := kinds[i]
		e := Event{At: at, For: between(rnd, k.from, k.to), Kind: k.kind}
		aim(rnd, &e)
		all = append(all, e)
		at += max(e.For+between(rnd, -overlap, gap), time.Second/2)
	}
	return all
}

// aim draws what a fault is about.
func aim(rnd *rand.Rand, e *Event) {
	stages := stageNames()
	switch e.Kind {
	case KillStage, StopStage, DownAtStart, Poison, Before:
		e.Stage = stages[rnd.IntN(len(stages))]
	case Shuffled, Repeated:
		e.Stage = stages[1+rnd.IntN(len(stages)-1)] // of what comes into ingest the load repeats some
	case ClockOffset:
		e.Stage = stages[rnd.IntN(len(stages))]
		e.Offset = between(rnd, -maxOffset, maxOffset)
	case KillAtPoint:
		e.Point = failpoint.Points()[rnd.IntN(len(failpoint.Points()))]
		e.Stage = stages[rnd.IntN(len(stages))]
		switch e.Point {
		case failpoint.Taken, failpoint.Ended:
			e.Stage = "archive" // where documents end
		case failpoint.LetterStored, failpoint.LetterOut:
			e.Stage = "validate" // where the load's unfit documents end
		}
	}
}

func between(rnd *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rnd.Int64N(int64(to-from)+1))
}

// stageNames lists the programs of the line.
func stageNames() []string {
	return []string{"ingest", "validate", "enrich", "standardize", "route", "scrape", "aggregate", "archive"}
}
