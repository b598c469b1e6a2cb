// Package contract holds every name that the world outside Millrace may depend on:
// stages, tasks, lanes, streams, subjects, headers, buckets and reasons. Each name
// is written here once and nowhere else.
package contract

// Stage is the name of one of the eight stages.
type Stage string

// The stages, in the order of the line.
const (
	Ingest      Stage = "ingest"
	Validate    Stage = "validate"
	Enrich      Stage = "enrich"
	Standardize Stage = "standardize"
	Route       Stage = "route"
	Scrape      Stage = "scrape"
	Aggregate   Stage = "aggregate"
	Archive     Stage = "archive"
)

// Stages lists all stages in the order of the line.
func Stages() []Stage {
	return []Stage{Ingest, Validate, Enrich, Standardize, Route, Scrape, Aggregate, Archive}
}

// Lane is a priority.
type Lane string

// The lanes, most urgent first.
const (
	High   Lane = "high"
	Normal Lane = "normal"
	Low    Lane = "low"
)

// Lanes lists all lanes, most urgent first.
func Lanes() []Lane { return []Lane{High, Normal, Low} }

// Valid reports whether l is one of the lanes.
func (l Lane) Valid() bool { return l == High || l == Normal || l == Low }

// Task is a task type.
type Task string

// The task types.
const (
	IntentAnalysis    Task = "intent_analysis"
	JobExtraction     Task = "job_extraction"
	DataEnrichment    Task = "data_enrichment"
	QualityValidation Task = "quality_validation"
)

// Tasks lists all task types.
func Tasks() []Task {
	return []Task{IntentAnalysis, JobExtraction, DataEnrichment, QualityValidation}
}

// Valid reports whether t is one of the task types.
func (t Task) Valid() bool {
	return t == IntentAnalysis || t == JobExtraction || t == DataEnrichment || t == QualityValidation
}

// Unknown stands in subjects, keys and names for a task or provider that is missing or invalid.
const Unknown = "unknown"

// Status is metadata.processing_status.
type Status string

// The processing states, in the order in which a document takes them.
const (
	StatusPending      Status = "pending"
	StatusValidated    Status = "validated"
	StatusEnriched     Status = "enriched"
	StatusStandardized Status = "standardized"
	StatusRouted       Status = "routed"
	StatusScraped      Status = "scraped"
	StatusAggregated   Status = "aggregated"
	StatusCompleted    Status = "completed"
	StatusFailed       Status = "failed"
)

// Outcome says how a completed document ended.
type Outcome string

// The outcomes of a terminal record.
const (
	OutcomeJobs     Outcome = "jobs"
	OutcomeStored   Outcome = "stored"
	OutcomeNoSearch Outcome = "no_search"
	OutcomeMerged   Outcome = "merged"
	OutcomeVerdict  Outcome = "verdict"
	OutcomeSplit    Outcome = "split"
	OutcomeReasked  Outcome = "reasked"
	OutcomeDegraded Outcome = "degraded"
)

// Reason says why a document is a dead letter. The list is closed.
type Reason string

// The reasons of dead letters.
const (
	ReasonMalformed     Reason = "malformed"      // not parseable, bad id or token, empty
	ReasonSchema        Reason = "schema"         // does not fit the JSON Schema of its task
	ReasonIntegrity     Reason = "integrity"      // checksum or size is not what the producer said
	ReasonConflict      Reason = "conflict"       // the same file_id came before with other bytes
	ReasonOversize      Reason = "oversize"       // over MAX_DOCUMENT_BYTES
	ReasonSensitive     Reason = "sensitive"      // refused by policy
	ReasonUnroutable    Reason = "unroutable"     // unknown task or target
	ReasonBlocked       Reason = "blocked"        // policy or terms of a source
	ReasonTimeout       Reason = "timeout"        // every attempt ran into its limit
	ReasonExhausted     Reason = "exhausted"      // every attempt failed
	ReasonMissingObject Reason = "missing_object" // a named object does not exist
	ReasonPanic         Reason = "panic"          // every attempt panicked, or one crashed its process each time
	ReasonRejected      Reason = "rejected"       // a refusal, an error body, no JSON, too many replays
)

// Reasons lists all reasons.
func Reasons() []Reason {
	return []Reason{
		ReasonMalformed, ReasonSchema, ReasonIntegrity, ReasonConflict, ReasonOversize, ReasonSensitive,
		ReasonUnroutable, ReasonBlocked, ReasonTimeout, ReasonExhausted, ReasonMissingObject, ReasonPanic, ReasonRejected,
	}
}
