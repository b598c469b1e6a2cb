// Package topology knows every stream, consumer, bucket and timer of the line: as plain
// data (Plan), in a broker (Apply), and compared with what a broker has (Check). Nothing
// else makes streams or consumers.
package topology

import (
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
)

// The defaults of Options.
const (
	DefaultDisk          = 8 << 30
	DefaultMemory        = 32 << 20
	DefaultDuplicates    = 10 * time.Minute
	DefaultAckWait       = 30 * time.Second
	DefaultMaxDeliver    = 20
	DefaultMaxAckPending = 1000
	DefaultResultAge     = 10 * time.Minute
	DefaultArchiveEvery  = time.Minute
)

// The streams that forget message ids earlier than Options.Duplicates: at 250 documents a
// second each minute of ids takes 2 MB in each stream.
const (
	// hopDuplicates is for what a stage sends to another: long enough for a publish that is
	// repeated; after a longer outage the work is done again, which is harmless.
	hopDuplicates = 2 * time.Minute
	// timelineDuplicates is for what is republished, of which there are no duplicates.
	timelineDuplicates = time.Second
)

// How long the streams of history and the traces of deleted keys stay.
const (
	completedAge = 30 * 24 * time.Hour
	timelineAge  = 7 * 24 * time.Hour
	advisoryAge  = 7 * 24 * time.Hour
	markerAge    = time.Minute
)

// LaneBatch is the fourth lane of the route stage: what waits there to be gathered.
const LaneBatch contract.Lane = "batch"

// Options size a topology. The zero value gives the defaults.
type Options struct {
	// Replicas is how many servers keep each message; 0 means 1, 3 is for clusters.
	Replicas int
	// Disk is what all streams on disk may take together, in bytes; 0 means DefaultDisk. It is
	// shared out by fixed parts, and about a sixth is left for LLM_RETRY, which has no limit.
	// It must be below what the broker may use, or the broker refuses the streams.
	Disk int64
	// Memory is what the stream of real-time answers may take, in bytes; 0 means DefaultMemory.
	Memory int64
	// QueueMessages bounds the messages of each stage's queue; 0 leaves it to their bytes.
	QueueMessages int64
	// Duplicates is how long message ids are remembered at most, between the stages for
	// less; 0 means DefaultDuplicates. Each id takes about 150 bytes of the broker's memory for
	// that long.
	Duplicates time.Duration
	// AckWait is how long a delivered message may stay without settlement or progress before
	// it is handed out again; 0 means DefaultAckWait.
	AckWait time.Duration
	// MaxDeliver is how often a message is handed out before the broker gives it up; 0 means
	// DefaultMaxDeliver. It is the net below the runner's own count of attempts.
	MaxDeliver int
	// MaxAckPending bounds what all processes of a stage hold of one lane; 0 means
	// DefaultMaxAckPending.
	MaxAckPending int
	// ResultAge is how long a real-time answer can be fetched; 0 means DefaultResultAge.
	ResultAge time.Duration
	// ArchiveEvery is the interval of the archive stage's timer, at least one second; 0 means
	// DefaultArchiveEvery.
	ArchiveEvery time.Duration
}

func (o Options) withDefaults() Options {
	o.Replicas = or(o.Replicas, 1)
	o.Disk = or(o.Disk, DefaultDisk)
	o.Memory = or(o.Memory, DefaultMemory)
	o.Duplicates = or(o.Duplicates, DefaultDuplicates)
	o.AckWait = or(o.AckWait, DefaultAckWait)
	o.MaxDeliver = or(o.MaxDeliver, DefaultMaxDeliver)
	o.MaxAckPending = or(o.MaxAckPending, DefaultMaxAckPending)
	o.ResultAge = or(o.ResultAge, DefaultResultAge)
	o.ArchiveEvery = or(o.ArchiveEvery, DefaultArchiveEvery)
	return o
}

func or[T int | int64 | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// Timer is a message that the broker publishes again and again.
type Timer struct {
	Subject string // holds the schedule
	Target  string // where the messages come
	Every   time.Duration
	Header  bus.Header
	Body    []byte
}

// Topology is everything that has to exist before the stages start.
type Topology struct {
	Streams []bus.StreamConfig
	Buckets []bus.KVConfig
	Timers  []Timer
}

// Plan returns the whole line as data.
func Plan(o Options) Topology {
	p := planner{o.withDefaults()}
	t := Topology{Timers: p.timers(), Buckets: p.buckets()}
	for _, s := range contract.Stages() {
		t.Streams = append(t.Streams, p.queue(s))
	}
	t.Streams = append(t.Streams, p.retry(), p.deadLetters())
	t.Streams = append(t.Streams, p.history()...)
	t.Streams = append(t.Streams, p.people()...)
	for i := range t.Streams {
		t.Streams[i].Replicas = p.Replicas
	}
	return t
}

// The parts of the disk in hundredths. What they leave is for LLM_RETRY.
const (
	partRaw       = 14
	partQueue     = 4 // of each of the seven other stages
	partDLQ       = 10
	partCompleted = 6
	partReview    = 2
	partReask     = 2
	partTimeline  = 4
	partAudit     = 2
	partAdvisory  = 1
	partLedger    = 12
	partJoin      = 2
	partCache     = 1
	partConfig    = 1
)

type planner struct{ Options }

func (p planner) part(hundredths int64) int64 { return p.Disk / 100 * hundredths }

// queue plans the work queue of a stage. It refuses what does not fit and has no age:
// nothing unprocessed is ever dropped.
func (p planner) queue(s contract.Stage) bus.StreamConfig {
	c := bus.StreamConfig{
		Name:        contract.StageStream(s),
		Description: "work for the " + string(s) + " stage",
		Subjects:    []string{contract.StageRoot(s) + ".>"},
		WorkQueue:   true,
		DiscardNew:  true,
		Batches:     true,
		MaxMsgs:     p.QueueMessages,
		MaxBytes:    p.part(partQueue),
		Duplicates:  min(p.Duplicates, hopDuplicates),
		RePublish:   timeline(string(s)),
		Metadata:    metadata("queue", s),
	}
	for _, l := range contract.Lanes() {
		c.Consumers = append(c.Consumers, p.consumer(s, l, "work of lane "+string(l), contract.StageRoot(s)+"."+string(l)+".>"))
	}
	switch s {
	case contract.Ingest:
		p.rawQueue(&c)
	case contract.Route:
		c.Consumers = append(c.Consumers,
			p.consumer(s, LaneBatch, "work that waits to be gathered", contract.StageRoot(s)+"."+string(LaneBatch)+".>"))
	}
	return c
}

// rawQueue makes c the queue of ingest, whose subjects are those of producers: a lane is
// the last token, and most have none.
func (p planner) rawQueue(c *bus.StreamConfig) {
	task, provider := contract.RootRaw+".*", contract.RootRaw+".*.*"
	c.Description = "what producers publish"
	c.MaxBytes = p.part(partRaw)
	c.Duplicates = p.Duplicates
	c.RePublish = nil // the timeline of a document begins with its identity
	c.Subjects = []string{task, provider}
	for i, l := range contract.Lanes() {
		subject := provider + "." + string(l)
		c.Subjects = append(c.Subjects, subject)
		c.Consumers[i].Filters = []string{subject}
		if l == contract.Normal {
			c.Consumers[i].Filters = []string{task, provider, subject}
		}
	}
}

// retry plans the stream of schedules. Schedules exclude DiscardNew, and any other limit
// would drop them silently, so it has none.
func (p planner) retry() bus.StreamConfig {
	c := bus.StreamConfig{
		Name:        contract.StreamRetry,
		Description: "delayed retries, join deadlines and timers",
		Subjects:    []string{contract.RootRetry + ".>", contract.RootCron + ".>", contract.RootDue + ".>"},
		WorkQueue:   true,
		Schedules:   true,
		Duplicates:  p.Duplicates,
		RePublish:   timeline("retry"),
		Metadata:    metadata("retry", ""),
	}
	for _, s := range contract.Stages() {
		d := p.consumer(s, "", "retries and timers that are due", contract.RootDue+"."+string(s)+".*")
		d.Name = contract.DueConsumer(s)
		c.Consumers = append(c.Consumers, d)
	}
	return c
}

func (p planner) deadLetters() bus.StreamConfig {
	return bus.StreamConfig{
		Name:        contract.StreamDLQ,
		Description: "dead letters",
		Subjects:    []string{contract.RootDLQ + ".>"},
		DiscardNew:  true,
		Batches:     true,
		MaxBytes:    p.part(partDLQ),
		Duplicates:  p.Duplicates,
		RePublish:   timeline("dlq"),
		Metadata:    metadata("dead letters", ""),
	}
}

func (p planner) consumer(s contract.Stage, l contract.Lane, what string, filters ...string) bus.ConsumerConfig {
	c := bus.ConsumerConfig{
		Name:          contract.Consumer(s, l),
		Description:   what,
		Filters:       filters,
		AckWait:       p.AckWait,
		MaxDeliver:    p.MaxDeliver,
		MaxAckPending: p.MaxAckPending,
		Metadata:      metadata("consumer", s),
	}
	if l != "" {
		c.Metadata["millrace.lane"] = string(l)
	}
	return c
}

// timeline sends the headers of what is stored on llm.<root>.> to the timeline.
func timeline(root string) *bus.RePublish {
	return &bus.RePublish{Source: "llm." + root + ".>", Destination: contract.RootTimeline + "." + root + ".>"}
}

func metadata(role string, s contract.Stage) map[string]string {
	m := map[string]string{"millrace.role": strings.ReplaceAll(role, " ", "-")}
	if s != "" {
		m["millrace.stage"] = string(s)
	}
	return m
}
