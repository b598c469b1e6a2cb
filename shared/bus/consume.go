package bus

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// pullExpiry is how long the broker keeps a request for messages open. A request that
	// got lost costs at most this and pullGrace.
	pullExpiry = 5 * time.Second
	// pullGrace is how long after its expiry a request without an answer counts as lost.
	pullGrace = time.Second
	// pullPause is the pace of asking while the broker refuses: consumer or stream missing.
	pullPause = time.Second
	// ackGrace is how long after its AckWait a delivery that nobody settled keeps its credit.
	ackGrace = 500 * time.Millisecond
	// stopWait bounds how long Stop waits for messages that are under way, to give them back.
	stopWait = time.Second
	// spareSlots is the room for answers that are not messages beside the credits.
	spareSlots = 64

	ackPrefix     = "$JS.ACK."
	statusIdle    = "100"
	statusTimeout = "408"
)

// puller is one Consume. It asks for messages with at most two open requests, each with an
// inbox of its own: a message carries its stream's subject, not that of the request, so
// only the inbox tells which request it answers and how much of that is left.
//
// The client library's own loop is not used: it takes a stored message that has a Status
// header and no body for a control message and swallows it. Here a message is what has an
// acknowledgement subject as its reply.
type puller struct {
	j        *JetStream
	stream   string
	consumer string
	next     string // subject of requests
	credits  int
	ackWait  time.Duration
	fn       func(Delivery)

	in      chan *nats.Msg
	wake    chan struct{} // a credit became free
	again   chan struct{} // the connection is new: all requests are gone
	stop    chan struct{}
	done    chan struct{}
	halting sync.Once

	// Of the loop alone.
	slots   [2]request
	pause   time.Time // ask for nothing before
	refused bool      // the last answer was a refusal, and that was logged

	mu   sync.Mutex
	held map[*delivery]struct{} // delivered and unsettled: these have a credit each
}

// request is one open request at most.
type request struct {
	sub      *nats.Subscription
	inbox    string
	reply    string    // of the open request
	n        uint64    // how many requests there have been
	left     int       // messages still to come; 0 means that no request is open
	deadline time.Time // when the request counts as lost
}

// Consume implements Bus. The context bounds the check that the consumer exists. fn must
// not call Stop. A delivery that was not settled in time, and that the broker hands out
// again therefore, gives its credit back by itself; the time is the consumer's AckWait as
// it was when Consume was called.
func (j *JetStream) Consume(ctx context.Context, stream, consumer string, credits int, fn func(Delivery)) (Subscription, error) {
	info, err := j.consumerInfo(ctx, stream, consumer)
	if err != nil {
		return nil, fmt.Errorf("bind to consumer %q of %q: %w", consumer, stream, err)
	}
	credits = max(credits, 1)
	p := &puller{
		j: j, stream: stream, consumer: consumer, credits: credits, ackWait: time.Duration(info.Config.AckWait), fn: fn,
		next:  "$JS.API.CONSUMER.MSG.NEXT." + stream + "." + consumer,
		in:    make(chan *nats.Msg, credits+spareSlots),
		wake:  make(chan struct{}, 1),
		again: make(chan struct{}, 1),
		stop:  make(chan struct{}),
		done:  make(chan struct{}),
		held:  make(map[*delivery]struct{}, credits),
	}
	for i := range p.slots {
		s := &p.slots[i]
		s.inbox = j.nc.NewInbox()
		if s.sub, err = j.nc.ChanSubscribe(s.inbox+".*", p.in); err != nil {
			p.unsubscribe()
			return nil, publishError(p.next, err)
		}
	}
	j.mu.Lock()
	j.running[p] = struct{}{}
	j.mu.Unlock()
	go p.run()
	return p, nil
}

// Stop implements Subscription.
func (p *puller) Stop() {
	p.halting.Do(func() { close(p.stop) })
	<-p.done
}

// restart makes the loop ask anew. It does not wait.
func (p *puller) restart() { signal(p.again) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (p *puller) run() {
	defer close(p.done)
	timer := time.NewTimer(pullExpiry)
	defer timer.Stop()
	for {
		if p.ask() {
			timer.Reset(p.due())
		}
		select {
		case m := <-p.in:
			p.take(m)
		case <-p.wake:
		case <-p.again:
			p.pause = time.Time{}
			for i := range p.slots {
				p.slots[i].left = 0
			}
		case <-timer.C:
			p.lapse(time.Now())
			timer.Reset(p.due())
		case <-p.stop:
			p.finish()
			return
		}
	}
}

// ask opens a request for the free credits where that is worth it: at once where no other
// is open, else when half of the credits are free. It reports whether the timer has to be
// set anew.
func (p *puller) ask() bool {
	asked, idle := 0, -1
	for i := range p.slots {
		if p.slots[i].left == 0 {
			idle = i
		}
		asked += p.slots[i].left
	}
	if idle < 0 {
		return false
	}
	p.mu.Lock()
	held := len(p.held)
	p.mu.Unlock()
	free := p.credits - held - asked
	switch {
	case free <= 0:
		return asked == 0 // wait for the first delivery that runs out of time
	case asked > 0 && free < max(1, p.credits/2):
		return false
	}
	now := time.Now()
	if now.Before(p.pause) {
		return true
	}
	s := &p.slots[idle]
	s.n++
	s.reply = s.inbox + "." + strconv.FormatUint(s.n, 36)
	s.left, s.deadline = free, now.Add(pullExpiry+pullGrace)
	body := make([]byte, 0, 48)
	body = append(body, `{"batch":`...)
	body = strconv.AppendInt(body, int64(free), 10)
	body = append(body, `,"expires":`...)
	body = strconv.AppendInt(body, int64(pullExpiry), 10)
	body = append(body, '}')
	if err := p.j.nc.PublishRequest(p.next, s.reply, body); err != nil {
		p.refuse(s, "the request could not be sent", err)
	}
	return true
}

// take handles what came to an inbox.
func (p *puller) take(m *nats.Msg) {
	i := slices.IndexFunc(p.slots[:], func(s request) bool { return s.sub == m.Sub })
	if i < 0 {
		return
	}
	s := &p.slots[i]
	if !strings.HasPrefix(m.Reply, ackPrefix) {
		p.status(s, m)
		return
	}
	s.left = max(s.left-1, 0)
	p.refused = false
	p.j.link.heard()
	d := newDelivery(p, m)
	if d == nil {
		return
	}
	p.mu.Lock()
	over := len(p.held) >= p.credits
	if !over {
		p.held[d] = struct{}{}
	}
	p.mu.Unlock()
	if over {
		// It came for a request that counted as lost. Somebody else may have room.
		_ = d.Nak() // where this fails, the broker's timer does the same
		return
	}
	p.fn(d)
}

// status handles the end of a request.
func (p *puller) status(s *request, m *nats.Msg) {
	code := m.Header.Get(headerStatus)
	if m.Subject != s.reply || code == statusIdle {
		return
	}
	s.left = 0
	if code == statusTimeout {
		p.refused = false
		p.j.link.heard()
		return
	}
	p.refuse(s, code+" "+m.Header.Get(headerDescription), nil)
}

// refuse slows down after a refusal and says so once.
func (p *puller) refuse(s *request, answer string, err error) {
	s.left = 0
	p.pause = time.Now().Add(pullPause)
	p.j.unanswered()
	if p.refused {
		return
	}
	p.refused = true
	p.j.log.Warn().Err(err).Str("stream", p.stream).Str("consumer", p.consumer).Str("answer", answer).
		Msg("broker gives no messages, asking on")
}

// lapse ends the requests and takes back the credits that ran out of time.
func (p *puller) lapse(now time.Time) {
	for i := range p.slots {
		if s := &p.slots[i]; s.left > 0 && !now.Before(s.deadline) {
			s.left = 0
			p.j.unanswered()
		}
	}
	if p.ackWait <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for d := range p.held {
		if !now.Before(d.expires()) {
			delete(p.held, d)
		}
	}
}

// due returns how long the loop may sleep where nothing happens.
func (p *puller) due() time.Duration {
	now := time.Now()
	next := now.Add(pullExpiry + pullGrace)
	open := false
	for i := range p.slots {
		if s := &p.slots[i]; s.left > 0 {
			open = true
			if s.deadline.Before(next) {
				next = s.deadline
			}
		}
	}
	if p.pause.After(now) && p.pause.Before(next) {
		next = p.pause
	}
	if !open && p.ackWait > 0 {
		p.mu.Lock()
		for d := range p.held {
			if t := d.expires(); t.Before(next) {
				next = t
			}
		}
		p.mu.Unlock()
	}
	return max(next.Sub(now), time.Millisecond)
}

// release gives back the credit of d, if it still has one.
func (p *puller) release(d *delivery) {
	p.mu.Lock()
	_, had := p.held[d]
	delete(p.held, d)
	p.mu.Unlock()
	if had {
		signal(p.wake)
	}
}

// finish ends the subscription and gives back what was under way, so that nobody has to
// wait for the broker's timer.
func (p *puller) finish() {
	p.j.mu.Lock()
	delete(p.j.running, p)
	p.j.mu.Unlock()
	p.unsubscribe()
	if p.j.nc.IsConnected() {
		// Without an answer the broker's timer does the same.
		_ = p.j.nc.FlushTimeout(stopWait)
	}
	for {
		select {
		case m := <-p.in:
			if strings.HasPrefix(m.Reply, ackPrefix) {
				_ = m.Respond(nakBody) // where this fails, the broker's timer does the same
			}
		default:
			return
		}
	}
}

// unsubscribe lets what the broker has sent before still come in.
func (p *puller) unsubscribe() {
	for i := range p.slots {
		if p.slots[i].sub != nil {
			_ = p.slots[i].sub.Drain() // it fails only where the connection is closed
		}
	}
}
