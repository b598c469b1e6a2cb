package bus

import "time"

// StreamConfig describes a stream: plain data that topology writes, JetStream is given and
// Memory is made from. Zero limits mean none.
type StreamConfig struct {
	Name        string
	Description string
	Subjects    []string
	// WorkQueue says that an acknowledged message is removed; else only limits remove it.
	WorkQueue bool
	// DiscardNew says that a full stream refuses the publish; else it drops its oldest message.
	DiscardNew bool
	// InMemory says that the messages are lost when the broker stops.
	InMemory bool

	MaxMsgs           int64
	MaxBytes          int64
	MaxAge            time.Duration
	MaxMsgsPerSubject int64
	// Duplicates is how long message ids are remembered.
	Duplicates time.Duration
	// Schedules allows Bus.Schedule and Bus.Every; it excludes DiscardNew.
	Schedules bool
	// Batches allows writes to be gathered (Gather): all of a batch are stored, or none.
	Batches bool
	// MsgTTL allows messages that leave after a time of their own.
	MsgTTL bool
	// DenyDelete and DenyPurge, once set, can never be taken back.
	DenyDelete, DenyPurge bool
	// AsyncPersist trades the durability of an acknowledgement for speed. One replica only.
	AsyncPersist bool
	// RePublish copies the headers of every stored message to another subject. Nil means no.
	RePublish *RePublish
	Replicas  int // 0 means 1
	Metadata  map[string]string
	Consumers []ConsumerConfig
}

// RePublish says which stored messages of a stream are sent on, without their bodies.
type RePublish struct {
	Source      string // a subject with wildcards
	Destination string // ends in ">" where Source does
}

// ConsumerConfig describes a durable pull consumer with explicit acknowledgement.
type ConsumerConfig struct {
	Name        string
	Description string
	Filters     []string // of a work queue: must not overlap those of another consumer
	// AckWait is how long a delivered message may stay without settlement or progress
	// before it is delivered again.
	AckWait time.Duration
	// MaxDeliver is how often a message is delivered before the broker gives it up and says
	// so in an advisory. 0 means without end.
	MaxDeliver int
	// MaxAckPending bounds the delivered and unsettled messages of all subscribers together.
	MaxAckPending int
	Metadata      map[string]string
}

// KVConfig describes a key-value bucket that keeps one value per key.
type KVConfig struct {
	Name        string
	Description string
	MaxBytes    int64 // 0 means no limit
	// MarkerTTL allows keys with a time to live, and is how long the broker remembers that a
	// key was deleted or has expired. 0 allows none; else at least one second.
	MarkerTTL time.Duration
	Replicas  int // 0 means 1
	Metadata  map[string]string
}
