package contract

// The buckets.
const (
	BucketRaw       = "llm-raw"
	BucketProcessed = "llm-processed"
	BucketArchive   = "llm-archive"
	BucketDLQ       = "llm-dlq"
	BucketJobs      = "job-data"
)

// Buckets lists all buckets.
func Buckets() []string {
	return []string{BucketRaw, BucketProcessed, BucketArchive, BucketDLQ, BucketJobs}
}

// View is one way in which the documents of a class are laid out.
type View string

// The views.
const (
	ByDate     View = "by_date"
	ByProvider View = "by_provider"
	ByTask     View = "by_task_type"
)

// Views lists all views.
func Views() []View { return []View{ByDate, ByProvider, ByTask} }

// Class is a kind of stored document.
type Class string

// The classes. ClassRaw has BucketRaw to itself, the others share BucketProcessed.
const (
	ClassRaw          Class = "raw"
	ClassValidated    Class = "validated"
	ClassEnriched     Class = "enriched"
	ClassStandardized Class = "standardized"
)

// Classes lists all classes that are kept in views.
func Classes() []Class {
	return []Class{ClassRaw, ClassValidated, ClassEnriched, ClassStandardized}
}

// The key prefixes of what is no view.
const (
	InboxPrefix = "_inbox/" // in BucketRaw: bodies too large for a message, put there by producers
	ClaimPrefix = "_claim/" // in BucketProcessed: bodies between stages
	NamePrefix  = "_name/"  // in BucketRaw: file names that are taken, where by_date is not kept
)

// The names of object metadata (S3 user metadata, lower case).
const (
	MetaFileID    = "file-id"
	MetaName      = "name"
	MetaTask      = "task"
	MetaProvider  = "provider"
	MetaLane      = "lane"
	MetaCreatedAt = "created-at"
	MetaSHA256    = "sha256"

	// Only where they are needed to come to the same end again.
	MetaReason         = "reason"           // why ingest refused the document
	MetaProducerFileID = "producer-file-id" // what the producer sent, where it is an id but could not be used
)

// ClassBucket returns the bucket of class c and the prefix of its keys in it.
func ClassBucket(c Class) (bucket, prefix string) {
	if c == ClassRaw {
		return BucketRaw, ""
	}
	return BucketProcessed, string(c) + "/"
}
