package doc

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

// Origin is where the broker stored a message first.
type Origin struct {
	Subject string
	Stream  string
	Seq     uint64
	Time    time.Time
}

// Document is one piece of work: an envelope and how it travels. Before ingest the envelope
// is empty and Body holds whatever was sent.
type Document struct {
	Envelope

	Body   []byte     // as received; nil on outputs
	Header bus.Header // as received; nil on outputs
	Lane   contract.Lane
	Name   string // file name
	Source string // of a scrape task or its answer
	Timer  string // what a timer's message is for; empty on all others
	Object string // bucket/key of the object that holds the body, where one does
	Layout Layout // where it is stored

	Attempt  int    // from 1
	Replay   int    // how often the document was replayed
	ReplayOf string // the dead letter that was replayed, as stream sequence
	Failures []string
	Origin   Origin
	Timeline []Step
	Trace    string // W3C traceparent

	// Objects have to be stored before the message is settled in any way, be it as done or
	// as a dead letter.
	Objects []store.Object
}

// WorkID names the piece of work: one retry replaces another only where it is the same.
func (d *Document) WorkID() string {
	id := d.Metadata.FileID
	switch {
	case d.Timer == contract.TimerJoin:
		return id + contract.JoinSuffix
	case d.Timer != "":
		return "timer~" + d.Timer
	case d.Source != "":
		return id + "~" + d.Source
	default:
		return id
	}
}

// Next returns an output for another stage that carries on d: same identity, lane, layout,
// origin of the trace and timeline, first attempt. Envelope members are shared, not copied.
func (d *Document) Next() *Document {
	return &Document{
		Envelope: d.Envelope, Lane: d.Lane, Name: d.Name, Source: d.Source, Layout: d.Layout,
		Attempt: 1, Replay: d.Replay, ReplayOf: d.ReplayOf,
		Timeline: d.Timeline, Trace: d.Trace,
	}
}

// Step is one entry of a timeline.
type Step struct {
	Stage   contract.Stage `json:"stage"`
	At      time.Time      `json:"at"` // when the stage had finished
	MS      int64          `json:"ms"` // how long it took, in milliseconds
	Attempt int            `json:"attempt,omitzero"`
}

// formatTimeline writes steps as stage@unixmilliseconds+milliseconds*attempt, comma-separated.
func formatTimeline(steps []Step) string {
	parts := make([]string, len(steps))
	for i, s := range steps {
		parts[i] = fmt.Sprintf("%s@%d+%d*%d", s.Stage, s.At.UnixMilli(), s.MS, s.Attempt)
	}
	return strings.Join(parts, ",")
}

// parseTimeline reads what formatTimeline wrote and leaves out what it does not understand:
// a timeline is a convenience.
func parseTimeline(s string) []Step {
	var steps []Step
	for part := range strings.SplitSeq(s, ",") {
		stage, rest, ok := strings.Cut(part, "@")
		at, rest, ok2 := strings.Cut(rest, "+")
		ms, attempt, ok3 := strings.Cut(rest, "*")
		if !ok || !ok2 || !ok3 {
			continue
		}
		t, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(ms, 10, 64)
		if err != nil {
			continue
		}
		a, err := strconv.Atoi(attempt)
		if err != nil {
			continue
		}
		steps = append(steps, Step{Stage: contract.Stage(stage), At: time.UnixMilli(t).UTC(), MS: n, Attempt: a})
	}
	return steps
}
