package contract

import (
	"strconv"
	"strings"
)

// The streams. A stage's own stream is StageStream(stage).
const (
	StreamRaw       = "LLM_RAW"
	StreamRetry     = "LLM_RETRY"
	StreamDLQ       = "LLM_DLQ"
	StreamCompleted = "LLM_COMPLETED"
	StreamResult    = "LLM_RESULT"
	StreamReview    = "LLM_REVIEW"
	StreamReask     = "LLM_REASK"
	StreamTimeline  = "LLM_TIMELINE"
	StreamAudit     = "LLM_AUDIT"
	StreamAdvisory  = "LLM_ADVISORY"
)

// The key-value buckets.
const (
	KVConfig = "LLM_CONFIG"
	KVLedger = "LLM_LEDGER"
	KVCache  = "LLM_CACHE"
	KVJoin   = "LLM_JOIN"
)

// The subject roots; a full subject is made by the functions below.
const (
	RootRaw       = "llm.raw"
	RootRetry     = "llm.retry"
	RootDue       = "llm.due"
	RootCron      = "llm.cron"
	RootDLQ       = "llm.dlq"
	RootCompleted = "llm.completed"
	RootResult    = "llm.result"
	RootReview    = "llm.review"
	RootReask     = "llm.reask"
	RootTimeline  = "llm.timeline"
	RootAudit     = "llm.audit"
	RootStored    = "llm.stored" // announcements of stored objects, in no stream

	// MaxDeliveriesAdvisory is the broker's root for messages that were delivered too often:
	// <root>.<stream>.<consumer>.
	MaxDeliveriesAdvisory = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES"
)

// CronArchive is the name of the timer that makes the archive stage write the day's archive.
const CronArchive = "archive"

// CronReplay is the name of the timers that make the archive stage work on the replay of dead
// letters; each such job has one of its own, whose messages carry the job's id as their file_id.
const CronReplay = "replay"

// JoinSuffix ends the work id of a join deadline; "~" stands in no file_id.
const JoinSuffix = "~join"

// StageStream returns the work queue that stage s takes from.
func StageStream(s Stage) string {
	if s == Ingest {
		return StreamRaw
	}
	return "LLM_" + strings.ToUpper(string(s))
}

// StageSubject returns the subject on which work for stage s is published. For scrape the
// last token is the source, for every other stage the provider.
func StageSubject(s Stage, lane Lane, task, last string) string {
	return join("llm", string(s), string(lane), task, last)
}

// StageRoot returns the first two tokens of the subjects of stage s.
func StageRoot(s Stage) string {
	if s == Ingest {
		return RootRaw
	}
	return join("llm", string(s))
}

// Consumer returns the durable name of the consumer of stage s for lane l.
func Consumer(s Stage, l Lane) string { return string(s) + "-" + string(l) }

// DueConsumer returns the durable name, on StreamRetry, of the consumer of stage s.
func DueConsumer(s Stage) string { return string(s) + "-due" }

// AdvisoryConsumer returns the durable name, on StreamAdvisory, of the consumer of stage s.
func AdvisoryConsumer(s Stage) string { return string(s) + "-advisory" }

// RawSubject returns the subject on which a producer publishes; provider and lane may be empty.
func RawSubject(task, provider string, lane Lane) string {
	switch {
	case provider == "":
		return join(RootRaw, task)
	case lane == "":
		return join(RootRaw, task, provider)
	default:
		return join(RootRaw, task, provider, string(lane))
	}
}

// RetrySubject returns the subject that holds the one pending schedule of a piece of work. A
// replay is other work than what it replays: while that still goes about, neither may replace
// the schedule of the other.
func RetrySubject(s Stage, workID string, replay int) string {
	if replay > 0 {
		workID = join(workID, "r"+strconv.Itoa(replay))
	}
	return join(RootRetry, string(s), workID)
}

// DueSubject returns the subject on which a schedule's message comes back.
func DueSubject(s Stage, l Lane) string { return join(RootDue, string(s), string(l)) }

// CronSubject returns the subject of a repeating schedule.
func CronSubject(name string) string { return join(RootCron, name) }

// DLQSubject returns the subject of a dead letter.
func DLQSubject(s Stage, r Reason) string { return join(RootDLQ, string(s), string(r)) }

// CompletedSubject returns the subject of a terminal record.
func CompletedSubject(task, provider string) string { return join(RootCompleted, task, provider) }

// ResultSubject returns the subject of a real-time answer.
func ResultSubject(fileID string) string { return join(RootResult, fileID) }

// StoredSubject returns the subject on which stage s announces what it stored. The body is
// the objects as bucket/key, one a line.
func StoredSubject(s Stage) string { return join(RootStored, string(s)) }

func join(tokens ...string) string { return strings.Join(tokens, ".") }

// The headers of messages. Nothing else is passed on.
const (
	HeaderFileID   = "Llm-File-Id"
	HeaderTask     = "Llm-Task"
	HeaderProvider = "Llm-Provider"
	HeaderLane     = "Llm-Lane"
	HeaderAttempt  = "Llm-Attempt"
	HeaderStage    = "Llm-Stage"
	HeaderSchema   = "Llm-Schema"
	HeaderName     = "Llm-Name"
	HeaderObject   = "Llm-Object"
	HeaderSHA256   = "Llm-Sha256"
	HeaderTimeline = "Llm-Timeline"
	HeaderLayout   = "Llm-Layout"   // in which views the document is stored, and which classes of it
	HeaderSource   = "Llm-Source"   // the source of a scrape task or of its answer
	HeaderTimer    = "Llm-Timer"    // what a timer's message is for: "join" or the name of a cron timer
	HeaderFailures = "Llm-Failures" // the kinds of the failed attempts so far, comma-separated
	HeaderTrace    = "traceparent"

	HeaderReason         = "Llm-Reason"
	HeaderError          = "Llm-Error"
	HeaderFailedAt       = "Llm-Failed-At"
	HeaderOriginSubject  = "Llm-Origin-Subject"
	HeaderOriginStream   = "Llm-Origin-Stream"
	HeaderOriginSeq      = "Llm-Origin-Seq"
	HeaderOriginTime     = "Llm-Origin-Time"
	HeaderReplayOf       = "Llm-Replay-Of"
	HeaderReplayCount    = "Llm-Replay-Count"
	HeaderProducerFileID = "Llm-Producer-File-Id" // the file_id a producer sent where it could not be used

	HeaderRefillOf = "Llm-Refill-Of" // bucket/key of the raw object that is sent through the line again
	HeaderRestored = "Llm-Restored"  // what a terminal record was made from again: RestoredArchive or RestoredObjects
)

// The values of HeaderRestored.
const (
	RestoredArchive = "archive" // the record as an archive holds it; it is in that archive already
	RestoredObjects = "objects" // a record of what the buckets hold; its timeline is lost
)

// TimerJoin is the HeaderTimer value of a join deadline.
const TimerJoin = "join"

// Headers lists the headers that a message keeps when it comes back as a retry or ends as
// a dead letter.
func Headers() []string {
	return []string{
		HeaderFileID, HeaderTask, HeaderProvider, HeaderLane, HeaderAttempt, HeaderStage, HeaderSchema, HeaderName,
		HeaderObject, HeaderSHA256, HeaderTimeline, HeaderLayout, HeaderSource, HeaderTimer, HeaderFailures, HeaderTrace,
		HeaderReplayOf, HeaderReplayCount, HeaderProducerFileID, HeaderRefillOf,
	}
}
