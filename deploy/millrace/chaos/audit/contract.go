// Package audit is the independent witness of the fault suite. It publishes documents, keeps
// what it sent and what the broker accepted, and afterwards proves the invariants of the line
// from outside: by streams and buckets alone, with plain NATS and S3 clients. It imports
// nothing of the line, so that a mistake there is not made here a second time; the names of
// the contract stand here once more.
package audit

import (
	"errors"
	"strings"
)

// The streams that hold how documents ended.
const (
	streamCompleted = "LLM_COMPLETED"
	streamDLQ       = "LLM_DLQ"
	streamRetry     = "LLM_RETRY"
	rootCron        = "llm.cron."
	// Where the archive's timer comes out, and where it waits to come again.
	subjectDueArchive   = "llm.due.archive.low"
	subjectRetriedTimer = "llm.retry.archive.timer~archive"
	bucketRaw           = "llm-raw"
	bucketArchive       = "llm-archive"
)

// queues are the streams that hold work.
func queues() []string {
	return []string{
		"LLM_RAW", "LLM_VALIDATE", "LLM_ENRICH", "LLM_STANDARDIZE", "LLM_ROUTE", "LLM_SCRAPE", "LLM_AGGREGATE",
		"LLM_ARCHIVE", streamRetry,
	}
}

// The headers that are read.
const (
	headerMsgID      = "Nats-Msg-Id"
	headerFileID     = "Llm-File-Id"
	headerReason     = "Llm-Reason"
	headerReplay     = "Llm-Replay-Count"
	headerProducerID = "Llm-Producer-File-Id"
	headerName       = "Llm-Name"
	headerTimer      = "Llm-Timer"
)

// allowed reports whether a header may stand on an end of a document.
func allowed(name string) bool {
	return strings.HasPrefix(name, "Llm-") || name == "traceparent" || name == headerMsgID ||
		strings.HasPrefix(name, "Nats-Batch-") || // of a publish that went with others
		name == "Nats-Msg-Size" // in place of a body that was not asked for
}

// Invariant is the name of one thing that must hold.
type Invariant string

// The invariants.
const (
	OneEnd     Invariant = "one terminal state per accepted document"
	RawAsSent  Invariant = "raw object byte-equal to what was sent, and present"
	Readable   Invariant = "every object that a record names is readable"
	NoDouble   Invariant = "no duplicate in an aggregate"
	ReplayEnds Invariant = "a replayed dead letter completes or returns with a higher count"
	Emptied    Invariant = "nothing stays in a queue after the faults stop"
	SoundEnds  Invariant = "a fault makes no dead letter of a sound document"
	Archived   Invariant = "the archive holds what completed, once"
	CleanEnds  Invariant = "what a producer or the broker set in headers goes no further"
)

// Invariants lists all invariants, in the order in which they are reported.
func Invariants() []Invariant {
	return []Invariant{OneEnd, RawAsSent, Readable, NoDouble, ReplayEnds, Emptied, SoundEnds, CleanEnds, Archived}
}

// Effect is what a violation did to a document.
type Effect string

// The effects that are counted for each fault; a violation may have none of them.
const (
	Lost    Effect = "lost"    // it, or bytes of it, are nowhere
	Doubled Effect = "doubled" // it had an effect more than once
)

// Violation is a document, or a queue, for which an invariant does not hold.
type Violation struct {
	Invariant Invariant
	FileID    string // or the name of the queue
	Detail    string
	Effect    Effect
}

func (v Violation) String() string {
	return string(v.Invariant) + ": " + v.FileID + ": " + v.Detail
}

// errNotEqual is a stored body that is not the one that was sent.
var errNotEqual = errors.New("its bytes are not those that were sent")
