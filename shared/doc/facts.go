package doc

import (
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

// Validation is what validate found.
type Validation struct {
	Status    string   `json:"status"`             // "valid"
	Schema    string   `json:"schema"`             // the schema it was held against
	Coercions []string `json:"coercions,omitzero"` // what was brought into the schema's form, in order
}

// Enrichment holds facts derived from the content.
type Enrichment struct {
	// Places has one entry per text that names a place: content.intent.location, or the
	// location of each of content.jobs.
	Places []Place `json:"places,omitzero"`
	// Region is the region of the document as a whole: that of its first known place.
	Region Region `json:"region,omitzero"`
}

// Region is a part of the world that routing distinguishes.
type Region string

// The regions.
const (
	RegionAustralia    Region = "australia"
	RegionNorthAmerica Region = "north_america"
	RegionGlobal       Region = "global"
)

// Place is what a text says about where something is.
type Place struct {
	Pointer string `json:"pointer"`          // JSON Pointer of the text, from the envelope
	Text    string `json:"text"`             // as it stands there
	Name    string `json:"name,omitzero"`    // the part that was recognised
	Country string `json:"country,omitzero"` // ISO 3166-1 alpha-2
	Region  Region `json:"region,omitzero"`
	Remote  bool   `json:"remote,omitzero"`
	Rule    string `json:"rule,omitzero"` // which rule recognised it: country, state, city
}

// Standard is the canonical shape of the content.
type Standard struct {
	Intent *Intent      `json:"intent,omitzero"`
	Jobs   []JobPosting `json:"jobs,omitzero"`
	Target *Target      `json:"target,omitzero"`
	Facts  codec.Value  `json:"facts,omitzero"`
	Review *Verdict     `json:"verdict,omitzero"`
}

// Intent is what a user looks for.
type Intent struct {
	IsJobRelated    bool     `json:"is_job_related"`
	Confidence      *float64 `json:"confidence,omitzero"` // 0 to 1
	JobTitle        string   `json:"job_title,omitzero"`
	Location        string   `json:"location,omitzero"`
	Skills          []string `json:"skills,omitzero"`
	ExperienceLevel string   `json:"experience_level,omitzero"`
}

// JobPosting is one job, with the property names of schema.org/JobPosting.
type JobPosting struct {
	Type               string        `json:"@type"` // "JobPosting"
	JobID              string        `json:"job_id,omitzero"`
	Source             string        `json:"source,omitzero"`     // the source that has it; empty for extracted jobs
	Identifier         string        `json:"identifier,omitzero"` // the source's own id
	Title              string        `json:"title"`
	HiringOrganization *Organization `json:"hiringOrganization,omitzero"`
	JobLocation        *Location     `json:"jobLocation,omitzero"`
	JobLocationType    string        `json:"jobLocationType,omitzero"` // TELECOMMUTE
	EmploymentType     string        `json:"employmentType,omitzero"`  // FULL_TIME, PART_TIME, …
	BaseSalaryText     string        `json:"baseSalaryText,omitzero"`  // as the text has it
	DatePosted         string        `json:"datePosted,omitzero"`      // RFC 3339 in UTC
	DatePostedText     string        `json:"datePostedText,omitzero"`  // as the text has it, where it is no such time
	Description        string        `json:"description,omitzero"`
	URL                string        `json:"url,omitzero"`
	Skills             []string      `json:"skills,omitzero"`
	Quality            *float64      `json:"quality,omitzero"` // 0 to 1, set by aggregate
	Extra              codec.Value   `json:",embed"`
}

// Organization is an employer.
type Organization struct {
	Type string `json:"@type"` // "Organization"
	Name string `json:"name"`
}

// Location is where a job is.
type Location struct {
	Type    string `json:"@type"` // "Place"
	Text    string `json:"text"`  // as the text has it
	Country string `json:"addressCountry,omitzero"`
}

// Target names what an enrichment or a verdict is about: a document or one job of it.
type Target struct {
	FileID string `json:"file_id,omitzero"`
	JobID  string `json:"job_id,omitzero"`
}

// Verdict is the content of a quality validation.
type Verdict struct {
	Verdict string      `json:"verdict"` // accept or reject
	Score   *float64    `json:"score,omitzero"`
	Issues  codec.Value `json:"issues,omitzero"`
}

// Routing is what route decided.
type Routing struct {
	Mode       string   `json:"mode"` // realtime
	Strategy   string   `json:"strategy"`
	Sources    []string `json:"sources,omitzero"`
	EstimateMS int64    `json:"estimate_ms,omitzero"` // how long the search should take
	Confidence float64  `json:"confidence"`           // 0 to 1
	// Deadline is when the join is closed with what is there, as milliseconds since 1970.
	Deadline int64 `json:"deadline_ms,omitzero"`
}

// SourceStatus is how a source answered.
type SourceStatus string

// The statuses of a source.
const (
	SourceOK          SourceStatus = "ok"
	SourceUnreachable SourceStatus = "unreachable" // no connection
	SourceTimeout     SourceStatus = "timeout"     // no answer in time, or not before the join was closed
	SourceLimited     SourceStatus = "rate_limited"
	SourceBlocked     SourceStatus = "blocked" // refused: 401, 403, robots.txt, private network
	SourceFailed      SourceStatus = "failed"  // anything else
)

// Answer is what one source gave.
type Answer struct {
	Source string       `json:"source"`
	Status SourceStatus `json:"status"`
	Error  string       `json:"error,omitzero"`
	Jobs   []JobPosting `json:"jobs,omitzero"`
	Raw    *store.Ref   `json:"raw,omitzero"` // what was received, as it was
}

// SourceReport is an answer without its jobs.
type SourceReport struct {
	Source string       `json:"source"`
	Status SourceStatus `json:"status"`
	Jobs   int          `json:"jobs"`
	Error  string       `json:"error,omitzero"`
}

// Outcome is what aggregate made of a document.
type Outcome struct {
	Outcome contract.Outcome `json:"outcome"`
	Result  *store.Ref       `json:"result,omitzero"`
	Objects []store.Ref      `json:"objects,omitzero"` // further objects that the terminal record names
	Sources []SourceReport   `json:"sources,omitzero"`
}

// Record is the terminal record of a completed document.
type Record struct {
	Metadata Metadata         `json:"metadata"`
	Outcome  contract.Outcome `json:"outcome"`
	Objects  []store.Ref      `json:"objects"`
	Result   *store.Ref       `json:"result,omitzero"`
	Sources  []SourceReport   `json:"sources"`
	Timeline []Step           `json:"timeline"`
}
