package bus

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jobspy/millrace/shared/fault"
)

// What is sent to a message's acknowledgement subject.
var (
	ackBody      = []byte("+ACK")
	nakBody      = []byte("-NAK")
	progressBody = []byte("+WPI")
)

const termBody = "+TERM"

// delivery is one message handed out by a puller.
type delivery struct {
	p       *puller
	reply   string
	count   int
	stored  Stored
	touched atomic.Int64 // when the broker's timer was last restarted, in Unix nanoseconds
	settled atomic.Bool
}

// newDelivery returns nil where m's reply is not one of a consumer.
func newDelivery(p *puller, m *nats.Msg) *delivery {
	meta, err := m.Metadata()
	if err != nil {
		p.j.log.Error().Err(err).Str("reply", m.Reply).Msg("broker sent a message without its place")
		return nil
	}
	d := &delivery{
		p: p, reply: m.Reply, count: int(meta.NumDelivered),
		stored: Stored{
			Stream: meta.Stream, Seq: meta.Sequence.Stream, Time: meta.Timestamp.UTC(),
			Subject: m.Subject, Header: flatten(m.Header), Body: m.Data,
		},
	}
	d.touch()
	return d
}

func (d *delivery) Message() *Stored { return &d.stored }

func (d *delivery) Consumer() string { return d.p.consumer }

func (d *delivery) Count() int { return d.count }

func (d *delivery) touch() { d.touched.Store(time.Now().UnixNano()) }

// expires returns when the broker has surely handed the message out again.
func (d *delivery) expires() time.Time {
	return time.Unix(0, d.touched.Load()).Add(d.p.ackWait + ackGrace)
}

func (d *delivery) Ack(ctx context.Context) error {
	if err := d.confirm(ctx, ackBody); err != nil {
		return fmt.Errorf("acknowledge message %d of %q: %w", d.stored.Seq, d.stored.Stream, err)
	}
	return nil
}

func (d *delivery) Term(ctx context.Context, reason string) error {
	if err := d.confirm(ctx, []byte(termBody+" "+reason)); err != nil {
		return fmt.Errorf("terminate message %d of %q: %w", d.stored.Seq, d.stored.Stream, err)
	}
	return nil
}

// confirm settles with body and waits for the broker's answer, which has no content.
func (d *delivery) confirm(ctx context.Context, body []byte) error {
	if d.settled.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	_, err := d.p.j.ask(ctx, &nats.Msg{Subject: d.reply, Data: body})
	if errors.Is(err, nats.ErrNoResponders) {
		err = ErrNoConsumer
	}
	if err != nil {
		return fault.Down(err)
	}
	d.p.j.link.heard()
	d.settle()
	return nil
}

func (d *delivery) settle() {
	d.settled.Store(true)
	d.p.release(d)
}

func (d *delivery) AckLazily() error { return d.tell(ackBody, "acknowledge") }

func (d *delivery) Nak() error { return d.tell(nakBody, "give back") }

// tell settles with body and does not wait.
func (d *delivery) tell(body []byte, what string) error {
	if d.settled.Load() {
		return nil
	}
	if err := d.p.j.nc.Publish(d.reply, body); err != nil {
		return fault.Down(fmt.Errorf("%s message %d of %q: %w", what, d.stored.Seq, d.stored.Stream, err))
	}
	d.settle()
	return nil
}

func (d *delivery) Progress() error {
	if d.settled.Load() {
		return nil
	}
	if err := d.p.j.nc.Publish(d.reply, progressBody); err != nil {
		return fault.Down(fmt.Errorf("hold message %d of %q: %w", d.stored.Seq, d.stored.Stream, err))
	}
	d.touch()
	return nil
}
