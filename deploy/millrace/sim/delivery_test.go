package sim

import (
	"context"
	"sync"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
)

// subscription hands deliveries to a stage of one life: at once, later, or twice.
type subscription struct {
	*layer

	fn    func(bus.Delivery)
	inner bus.Subscription

	mu   sync.Mutex // fn is called once at a time, and not after Stop
	over bool
}

func (b *faultyBus) Consume(ctx context.Context, stream, consumer string, credits int, fn func(bus.Delivery)) (bus.Subscription, error) {
	if err := b.life.pass(); err != nil {
		return nil, err
	}
	if b.world.out(opDeliver) {
		return nil, errRefused
	}
	s := &subscription{layer: b.layer, fn: fn}
	var err error
	if s.inner, err = b.Bus.Consume(ctx, stream, consumer, credits, s.deliver); err != nil {
		return nil, err
	}
	b.life.onCrash(s.Stop)
	return s, nil
}

// Stop implements bus.Subscription.
func (s *subscription) Stop() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.inner.Stop()
}

func (s *subscription) deliver(d bus.Delivery) {
	m := d.Message()
	what := about(m.Subject, m.Header)
	who := s.world.docOf(what)
	wait := max(s.life.thaws(), s.world.back())
	f, _ := s.world.next(s.stage, opDeliver, who)
	s.world.note(who, "%s: deliver %s, seq %d, delivery %d", s.stage, what, m.Seq, d.Count())
	if f != nil {
		s.world.note(who, "%s: deliver %s: FAULT %s %s", s.stage, what, f.kind, f.wait)
		wait = max(wait, f.wait)
	}
	if wait > 0 {
		s.world.later(wait, func() { s.hand(d) })
	} else {
		s.hand(d)
	}
	if f != nil && f.kind == twice {
		_ = d.Nak() // the broker takes it for lost and hands it out again
	}
}

// hand gives a delivery to the stage, unless that is gone: then it comes again by itself.
func (s *subscription) hand(d bus.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.life.isDead() {
		return
	}
	if s.world.bug == ackFirst {
		_ = d.Ack(context.Background())
	}
	s.fn(&faultyDelivery{Delivery: d, layer: s.layer})
}

// faultyDelivery is a delivery as a stage of one life sees it.
type faultyDelivery struct {
	bus.Delivery
	*layer
}

func (d *faultyDelivery) about() string {
	m := d.Delivery.Message()
	return about(m.Subject, m.Header)
}

func (d *faultyDelivery) Ack(ctx context.Context) error {
	return d.do(ctx, opAck, d.about(), func(ctx context.Context) error {
		d.settling()
		return d.Delivery.Ack(ctx)
	})
}

func (d *faultyDelivery) Term(ctx context.Context, reason string) error {
	return d.do(ctx, opAck, d.about(), func(ctx context.Context) error {
		d.settling()
		return d.Delivery.Term(ctx, reason)
	})
}

func (d *faultyDelivery) AckLazily() error {
	return d.instant(opAck, d.about(), func() error {
		d.settling()
		return d.Delivery.AckLazily()
	})
}

// settling looks, before a raw message is gone, whether its bytes are there.
func (d *faultyDelivery) settling() {
	if m := d.Delivery.Message(); m.Stream == contract.StreamRaw {
		d.world.keepsRaw(m)
	}
}

func (d *faultyDelivery) Nak() error {
	if d.life.isDead() || d.life.thaws() > 0 || d.world.out(opAck) {
		return errRefused
	}
	return d.Delivery.Nak()
}

func (d *faultyDelivery) Progress() error {
	if d.life.isDead() || d.life.thaws() > 0 || d.world.out(opAck) {
		return errRefused
	}
	return d.Delivery.Progress()
}

// later calls f after a while, as long as the world stands.
func (w *world) later(d time.Duration, f func()) {
	w.pending.Add(1)
	w.working.Go(func() {
		defer w.pending.Add(-1)
		_ = sleep(context.Background(), d) // nothing ends it
		f()
	})
}
