package topology

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/jobspy/millrace/shared/bus"
)

// unlimited is the broker's word for "no limit of its own".
const unlimited = -1

// kvDuplicates is the window of a bucket's stream; its writes carry no ids.
const kvDuplicates = 2 * time.Minute

// streamConfig turns a stream into the broker's terms.
func streamConfig(s bus.StreamConfig) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name:               s.Name,
		Description:        s.Description,
		Subjects:           s.Subjects,
		Retention:          jetstream.LimitsPolicy,
		Discard:            jetstream.DiscardOld,
		Storage:            jetstream.FileStorage,
		MaxConsumers:       unlimited,
		MaxMsgs:            limit(s.MaxMsgs),
		MaxBytes:           limit(s.MaxBytes),
		MaxAge:             s.MaxAge,
		MaxMsgsPerSubject:  limit(s.MaxMsgsPerSubject),
		MaxMsgSize:         unlimited,
		Replicas:           max(s.Replicas, 1),
		Duplicates:         s.Duplicates,
		DenyDelete:         s.DenyDelete,
		DenyPurge:          s.DenyPurge,
		AllowDirect:        true,
		AllowMsgTTL:        s.MsgTTL,
		AllowAtomicPublish: s.Batches,
		AllowMsgSchedules:  s.Schedules,
		AllowRollup:        s.Schedules, // the broker adds it by itself
		Metadata:           s.Metadata,
	}
	if s.WorkQueue {
		c.Retention = jetstream.WorkQueuePolicy
	}
	if s.DiscardNew {
		c.Discard = jetstream.DiscardNew
	}
	if s.InMemory {
		c.Storage = jetstream.MemoryStorage
	}
	if s.AsyncPersist {
		c.PersistMode = jetstream.AsyncPersistMode
	}
	if s.RePublish != nil {
		c.RePublish = &jetstream.RePublish{
			Source: s.RePublish.Source, Destination: s.RePublish.Destination, HeadersOnly: true,
		}
	}
	return c
}

// bucketConfig turns a bucket into the stream that it is in the broker.
func bucketConfig(b bus.KVConfig) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:                   "KV_" + b.Name,
		Description:            b.Description,
		Subjects:               []string{"$KV." + b.Name + ".>"},
		Retention:              jetstream.LimitsPolicy,
		Discard:                jetstream.DiscardNew,
		Storage:                jetstream.FileStorage,
		MaxConsumers:           unlimited,
		MaxMsgs:                unlimited,
		MaxBytes:               limit(b.MaxBytes),
		MaxMsgsPerSubject:      1,
		MaxMsgSize:             unlimited,
		Replicas:               max(b.Replicas, 1),
		Duplicates:             kvDuplicates,
		DenyDelete:             true,
		AllowRollup:            true,
		AllowDirect:            true,
		AllowAtomicPublish:     true,
		AllowMsgTTL:            b.MarkerTTL > 0,
		SubjectDeleteMarkerTTL: b.MarkerTTL,
		Metadata:               b.Metadata,
	}
}

// consumerConfig turns a consumer into the broker's terms.
func consumerConfig(c bus.ConsumerConfig) jetstream.ConsumerConfig {
	out := jetstream.ConsumerConfig{
		Durable:       c.Name,
		Description:   c.Description,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       c.AckWait,
		MaxDeliver:    limit(c.MaxDeliver),
		MaxAckPending: c.MaxAckPending,
		ReplayPolicy:  jetstream.ReplayInstantPolicy,
		Metadata:      c.Metadata,
	}
	if len(c.Filters) == 1 {
		out.FilterSubject = c.Filters[0]
	} else {
		out.FilterSubjects = c.Filters
	}
	return out
}

func limit[T int | int64](n T) T {
	if n == 0 {
		return unlimited
	}
	return n
}
