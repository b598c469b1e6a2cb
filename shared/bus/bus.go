// Package bus is the broker as the stages see it: durable publishes, pull consumers with
// explicit acknowledgement, and key-value buckets with compare-and-set. JetStream is the
// real one; Memory has the same semantics inside one process. One conformance suite
// (bustest) runs against both.
//
// Every method may be called concurrently. A method that could not learn the broker's
// answer returns an error whose verdict is fault.Unavailable: the effect is then unknown,
// not absent.
package bus

import (
	"context"
	"errors"
	"iter"
	"time"
)

// What a caller may branch on. They are wrapped, so test with errors.Is.
var (
	// ErrFull: the stream is at its limit and refused the message.
	ErrFull = errors.New("stream is full")
	// ErrNoStream: no stream takes the subject, or the named stream or bucket does not exist.
	ErrNoStream = errors.New("no such stream")
	// ErrNoConsumer: the named consumer does not exist.
	ErrNoConsumer = errors.New("no such consumer")
	// ErrNotFound: no such key, or no such message.
	ErrNotFound = errors.New("not found")
	// ErrExists: Create found the key taken.
	ErrExists = errors.New("key exists")
	// ErrRevision: Update found another revision than the one expected.
	ErrRevision = errors.New("wrong revision")
	// ErrTooLarge: the message is over the broker's limit.
	ErrTooLarge = errors.New("message is too large")
)

// Header holds a message's headers; names are case-sensitive, one value each.
type Header map[string]string

// Message is what is published.
type Message struct {
	Subject string
	// ID is the idempotency key: a second publish with the same ID within the stream's
	// window stores nothing and gives a receipt with Duplicate set. Empty means none.
	ID     string
	Header Header
	Body   []byte
}

// Receipt proves that a message is stored and durable.
type Receipt struct {
	Stream    string
	Seq       uint64
	Duplicate bool
}

// Stored is a message as it lies in a stream.
type Stored struct {
	Stream  string
	Seq     uint64
	Time    time.Time
	Subject string
	Header  Header
	Body    []byte
}

// Delivery is a message handed out for work. It must end in exactly one of Ack, Nak and
// Term; until then Progress keeps the broker from handing it out again.
type Delivery interface {
	// Message returns the message. Callers do not change it.
	Message() *Stored
	// Consumer returns the durable name of the consumer that handed it out.
	Consumer() string
	// Count says how often the broker has delivered it, this time included.
	Count() int
	// Ack removes the message from the work queue and waits until the broker has confirmed.
	// An error means unknown; calling it again is harmless.
	Ack(ctx context.Context) error
	// AckLazily is Ack without waiting for the confirmation: where it got lost, the message is
	// delivered again. An error means that it did not go out.
	AckLazily() error
	// Nak gives the message back for immediate redelivery. It does not wait.
	Nak() error
	// Term removes the message for good and waits until the broker has confirmed.
	Term(ctx context.Context, reason string) error
	// Progress restarts the acknowledgement timer. It does not wait.
	Progress() error
}

// Subscription is a running Consume or Watch.
type Subscription interface {
	// Stop asks for no more and returns when no callback is running and none will be called
	// any more. Messages already delivered may still be settled. Idempotent.
	Stop()
}

// Info is the state of a stream.
type Info struct {
	Messages, Bytes   uint64
	FirstSeq, LastSeq uint64
	Consumers         []ConsumerInfo
}

// ConsumerInfo is the state of a consumer.
type ConsumerInfo struct {
	Name        string
	Pending     uint64 // not delivered yet
	AckPending  int    // delivered, not settled
	Redelivered int
}

// Bus is a broker.
type Bus interface {
	// Publish stores one message and returns when it is durable. Errors: ErrFull,
	// ErrNoStream, ErrTooLarge; anything else is fault.Unavailable.
	Publish(ctx context.Context, m Message) (Receipt, error)
	// Announce publishes to whoever listens right now, without storing or waiting.
	Announce(subject string, h Header, body []byte) error
	// Listen calls fn for each message published on a subject that filter matches from now on,
	// stored or not, one call at a time, until stop is called. Nothing is replayed.
	Listen(filter string, fn func(subject string, h Header, body []byte)) (stop func(), err error)
	// Schedule stores m so that the broker delivers it on subject target at the given time.
	// A second schedule on the same subject replaces the first; m.ID must be empty.
	Schedule(ctx context.Context, m Message, at time.Time, target string) error
	// Every stores m so that the broker delivers it on subject target each interval (at least
	// one second). A second one on the same subject replaces the first.
	Every(ctx context.Context, m Message, interval time.Duration, target string) error
	// Consume binds to an existing durable consumer and calls fn for each message, one call
	// at a time, with at most credits messages delivered and not settled. fn must not block
	// for long. It goes on through reconnects until Stop. Errors: ErrNoStream, ErrNoConsumer.
	Consume(ctx context.Context, stream, consumer string, credits int, fn func(Delivery)) (Subscription, error)
	// Get reads one stored message by sequence without consuming it. Error: ErrNotFound.
	Get(ctx context.Context, stream string, seq uint64) (*Stored, error)
	// Last reads the newest stored message on a subject. Error: ErrNotFound.
	Last(ctx context.Context, stream, subject string) (*Stored, error)
	// Scan yields the stored messages of a stream whose subject matches filter (empty means
	// all) from sequence from (0 means the first) up to the end as it was at the call, without
	// consuming. It yields one error and ends where it cannot go on.
	Scan(ctx context.Context, stream, filter string, from uint64) iter.Seq2[*Stored, error]
	// SeqAt returns the sequence of the first message of a stream stored at or after t, or
	// the next sequence to be given where there is none.
	SeqAt(ctx context.Context, stream string, t time.Time) (uint64, error)
	// Delete removes one stored message. Error: ErrNotFound.
	Delete(ctx context.Context, stream string, seq uint64) error
	// Info reads the state of a stream. Error: ErrNoStream.
	Info(ctx context.Context, stream string) (Info, error)
	// KV binds to an existing bucket. Error: ErrNoStream.
	KV(ctx context.Context, bucket string) (KV, error)
	// Ready returns nil while the broker can be reached.
	Ready(ctx context.Context) error
}

// Entry is the value of a key.
type Entry struct {
	Value    []byte
	Revision uint64
}

// KV is a bucket of small values with compare-and-set. Keys hold [A-Za-z0-9_.=/-].
type KV interface {
	// Get reads a key. Error: ErrNotFound.
	Get(ctx context.Context, key string) (Entry, error)
	// Create sets a key that does not exist and returns its revision. ttl 0 means it stays,
	// else it is removed after ttl (at least one second). Error: ErrExists.
	Create(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error)
	// Update sets a key whose revision is rev. Error: ErrRevision.
	Update(ctx context.Context, key string, value []byte, rev uint64, ttl time.Duration) (uint64, error)
	// Put sets a key whatever it held.
	Put(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error)
	// Delete removes a key; a missing one is no error.
	Delete(ctx context.Context, key string) error
	// Watch calls fn with the entry of a key as it is now, before it returns, and then each
	// time it has changed, one call at a time, through reconnects until Stop. A key that does
	// not exist is an Entry with Revision 0. Of changes that follow each other closely fn may
	// see only the last. fn must not call Stop. Errors are those of Get, but for ErrNotFound.
	Watch(ctx context.Context, key string, fn func(Entry)) (Subscription, error)
}
