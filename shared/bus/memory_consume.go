package bus

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/fault"
)

// advisoryType is the broker's name for the advisory that a message was delivered too often.
const advisoryType = "io.nats.jetstream.advisory.v1.max_deliver"

// memConsumer is one durable consumer of a Memory, whose lock guards it.
type memConsumer struct {
	s   *memStream
	cfg ConsumerConfig

	next    uint64                  // the first sequence not looked at
	redo    []uint64                // to be delivered again
	counts  map[uint64]int          // how often each unsettled message was delivered
	pending map[uint64]*memDelivery // delivered and unsettled: the newest delivery of each
	subs    []*memSub
	turn    int
}

func newMemConsumer(s *memStream, cfg ConsumerConfig) *memConsumer {
	return &memConsumer{
		s: s, cfg: cfg, next: 1,
		counts: make(map[uint64]int), pending: make(map[uint64]*memDelivery),
	}
}

func (c *memConsumer) matches(subject string) bool {
	if len(c.cfg.Filters) == 0 {
		return true
	}
	return slices.ContainsFunc(c.cfg.Filters, func(f string) bool { return Matches(f, subject) })
}

// memSub is one Consume.
type memSub struct {
	c       *memConsumer
	credits int
	held    map[*memDelivery]struct{}
	box     *mailbox[memDelivery]
}

// Consume implements Bus.
func (m *Memory) Consume(ctx context.Context, stream, consumer string, credits int, fn func(Delivery)) (Subscription, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("bind to consumer %q of %q: %w", consumer, stream, err)
	}
	c := s.consumers[consumer]
	if c == nil {
		return nil, fmt.Errorf("bind to consumer %q of %q: %w", consumer, stream, fault.Down(ErrNoConsumer))
	}
	sub := &memSub{c: c, credits: max(credits, 1), held: make(map[*memDelivery]struct{})}
	sub.box = newMailbox(func(d *memDelivery) { fn(d) })
	m.subs[sub] = struct{}{}
	c.subs = append(c.subs, sub)
	c.dispatch()
	return sub, nil
}

// Stop implements Subscription.
func (s *memSub) Stop() {
	m := s.c.s.m
	m.mu.Lock()
	delete(m.subs, s)
	s.c.subs = slices.DeleteFunc(s.c.subs, func(o *memSub) bool { return o == s })
	m.mu.Unlock()
	s.box.close()
	for _, d := range s.box.take() {
		_ = d.Nak() // of Memory it does not fail
	}
}

// free returns a subscriber with a free credit, each in its turn.
func (c *memConsumer) free() *memSub {
	for range c.subs {
		c.turn++
		if s := c.subs[c.turn%len(c.subs)]; len(s.held) < s.credits {
			return s
		}
	}
	return nil
}

// dispatch hands out what can be handed out.
func (c *memConsumer) dispatch() {
	for c.cfg.MaxAckPending <= 0 || len(c.pending) < c.cfg.MaxAckPending {
		sub := c.free()
		if sub == nil {
			return
		}
		m := c.pick()
		if m == nil {
			return
		}
		c.counts[m.Seq]++
		d := &memDelivery{sub: sub, stored: m, count: c.counts[m.Seq], touched: time.Now()}
		c.pending[m.Seq] = d
		sub.held[d] = struct{}{}
		if c.cfg.AckWait > 0 {
			c.s.m.at(d.touched.Add(c.cfg.AckWait), d.overdue)
		}
		sub.box.put(d)
	}
}

// pick returns the next message to hand out, nil where there is none.
func (c *memConsumer) pick() *Stored {
	for len(c.redo) > 0 {
		seq := c.redo[0]
		c.redo = c.redo[1:]
		if m := c.s.at(seq); m != nil {
			return m
		}
	}
	for c.next = max(c.next, c.s.base); c.next < c.s.next(); {
		m := c.s.at(c.next)
		c.next++
		if m != nil && c.matches(m.Subject) {
			return m
		}
	}
	return nil
}

// forget drops what is known of a message that is no longer in the stream.
func (c *memConsumer) forget(seq uint64) {
	delete(c.pending, seq)
	delete(c.counts, seq)
	c.redo = slices.DeleteFunc(c.redo, func(s uint64) bool { return s == seq })
}

// again has a message delivered once more, or gives it up: it then stays in the stream and
// only the advisory tells of it.
func (c *memConsumer) again(seq uint64) {
	delete(c.pending, seq)
	if n := c.counts[seq]; c.cfg.MaxDeliver > 0 && n >= c.cfg.MaxDeliver {
		delete(c.counts, seq)
		c.advise(seq, n)
		return
	}
	c.redo = append(c.redo, seq)
}

func (c *memConsumer) advise(seq uint64, deliveries int) {
	now := time.Now().UTC()
	body, err := codec.Marshal(struct {
		Type       string    `json:"type"`
		ID         string    `json:"id"`
		Time       time.Time `json:"timestamp"`
		Stream     string    `json:"stream"`
		Consumer   string    `json:"consumer"`
		StreamSeq  uint64    `json:"stream_seq"`
		Deliveries int       `json:"deliveries"`
	}{advisoryType, c.cfg.Name + "-" + strconv.FormatUint(seq, 10), now, c.s.cfg.Name, c.cfg.Name, seq, deliveries})
	if err != nil {
		return // names and numbers can always be written
	}
	c.s.m.offer(contract.MaxDeliveriesAdvisory+"."+c.s.cfg.Name+"."+c.cfg.Name, nil, body)
}

// memDelivery is one message handed out by a Memory, whose lock guards it.
type memDelivery struct {
	sub     *memSub
	stored  *Stored
	count   int
	touched time.Time
	settled bool
}

func (d *memDelivery) Message() *Stored { return d.stored }

func (d *memDelivery) Consumer() string { return d.sub.c.cfg.Name }

func (d *memDelivery) Count() int { return d.count }

func (d *memDelivery) Ack(ctx context.Context) error { return d.finish(ctx) }

func (d *memDelivery) AckLazily() error { return d.finish(context.Background()) }

func (d *memDelivery) Term(ctx context.Context, _ string) error { return d.finish(ctx) }

// finish settles for good, whichever delivery of the message this is.
func (d *memDelivery) finish(ctx context.Context) error {
	c := d.sub.c
	c.s.m.mu.Lock()
	defer c.s.m.mu.Unlock()
	if d.settled {
		return nil
	}
	if err := c.s.m.usable(ctx); err != nil {
		return fmt.Errorf("settle message %d of %q: %w", d.stored.Seq, c.s.cfg.Name, err)
	}
	c.forget(d.stored.Seq)
	if c.s.cfg.WorkQueue {
		c.s.remove(d.stored.Seq)
	}
	d.release()
	return nil
}

func (d *memDelivery) release() {
	d.settled = true
	delete(d.sub.held, d)
	d.sub.c.dispatch()
}

func (d *memDelivery) Nak() error {
	c := d.sub.c
	c.s.m.mu.Lock()
	defer c.s.m.mu.Unlock()
	if d.settled {
		return nil
	}
	if c.pending[d.stored.Seq] != nil { // maybe by another delivery: the broker does not look which
		c.again(d.stored.Seq)
	}
	d.release()
	return nil
}

func (d *memDelivery) Progress() error {
	c := d.sub.c
	c.s.m.mu.Lock()
	defer c.s.m.mu.Unlock()
	if d.settled {
		return nil
	}
	d.touched = time.Now()
	if newest := c.pending[d.stored.Seq]; newest != nil { // the broker does not look which delivery it is
		newest.touched = d.touched
	}
	return nil
}

// overdue takes back what nobody settled in time.
func (d *memDelivery) overdue(now time.Time) {
	if d.settled {
		return
	}
	c := d.sub.c
	if due := d.touched.Add(c.cfg.AckWait); due.After(now) {
		c.s.m.at(due, d.overdue)
		return
	}
	delete(d.sub.held, d)
	if c.pending[d.stored.Seq] == d {
		c.again(d.stored.Seq)
	}
	c.dispatch()
}
