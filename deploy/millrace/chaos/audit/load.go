package audit

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	ackWait = 3 * time.Second // for the broker's answer to one publish
	pause   = 200 * time.Millisecond
	// everyOnce is the share of documents that are published once, whatever the broker
	// answers: they may stay unknown. All others are repeated until they are accepted.
	everyOnce = 10
	// mostWaiting bounds the publishes that wait for the broker. While it is reached nothing
	// is sent, as a producer would not either.
	mostWaiting = 400
)

// Load publishes documents at a rate that does not depend on how fast they are taken.
type Load struct {
	JS     jetstream.JetStream
	Ledger *Ledger
	Run    string  // begins each file_id
	Rate   float64 // documents a second
	Sound  bool    // nothing is sent that ends as a dead letter

	times atomic.Int64 // by which the rate is multiplied; 0 counts as 1
	next  int
	wg    sync.WaitGroup
	slots chan struct{}
}

// Overload multiplies the rate until it is called again; 1 is the rate itself.
func (l *Load) Overload(times int) { l.times.Store(int64(times)) }

// Go publishes until ctx ends, and returns when all that was begun is accepted or given up.
// halt ends the repeating of what the broker does not accept.
func (l *Load) Go(ctx, halt context.Context) {
	l.slots = make(chan struct{}, mostWaiting)
	last := time.Now()
	due := 0.0
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			l.wg.Wait()
			return
		case <-t.C:
		}
		now := time.Now()
		due += now.Sub(last).Seconds() * l.Rate * float64(max(l.times.Load(), 1))
		last = now
		for ; due >= 1; due-- {
			select {
			case l.slots <- struct{}{}:
			default:
				due = 0
				continue
			}
			i := l.next
			l.next++
			l.wg.Go(func() {
				defer func() { <-l.slots }()
				l.one(halt, i)
			})
		}
	}
}

// one sends a document and its copies.
func (l *Load) one(ctx context.Context, i int) {
	d := Make(l.Run, i)
	if l.Sound && !d.sound() {
		return
	}
	header := nats.Header{}
	if i%everyHostile == everyHostile-1 || d.End == Dies && i%2 == 0 {
		header = hostile()
	}
	if !l.Send(ctx, d, header, i%everyOnce != 0) {
		return // of what may not be in the line a copy would be the first
	}
	for _, c := range d.Copies {
		select {
		case <-ctx.Done():
			return
		case <-time.After(c.After):
		}
		m := message(d, c.Body, c.MsgID, hostile()) // a conflict ends at ingest, which has seen them
		tries, err := l.publish(ctx, m, true)
		l.Ledger.Copied(&d, c, err == nil, tries)
	}
}

// hostile returns headers that are not a producer's to set, or of no concern to anybody.
func hostile() nats.Header {
	return nats.Header{"Status": {"503"}, "X-Of-A-Producer": {"kept out"}, "Nats-Expected-Stream": {"LLM_RAW"}}
}

// Send publishes one document and reports whether it was accepted; repeated says to go on
// until it is.
func (l *Load) Send(ctx context.Context, d Document, header nats.Header, repeated bool) bool {
	l.Ledger.Sending(d)
	tries, err := l.publish(ctx, message(d, d.Body, d.ID, header), repeated)
	if err != nil {
		return false
	}
	l.Ledger.Accepted(d.ID, tries)
	return true
}

func message(d Document, body []byte, msgID string, header nats.Header) *nats.Msg {
	if header == nil {
		header = nats.Header{}
	}
	header.Set(headerMsgID, msgID)
	header.Set(headerFileID, d.ID)
	return &nats.Msg{Subject: fmt.Sprintf("llm.raw.%s.%s", d.Task, d.Provider), Header: header, Data: body}
}

// publish publishes m until the broker accepts it, or once, and returns how often it did: a
// broker that was killed may have stored it and have forgotten its id.
func (l *Load) publish(ctx context.Context, m *nats.Msg, repeated bool) (tries int, err error) {
	for {
		tries++
		once, cancel := context.WithTimeout(ctx, ackWait)
		_, err = l.JS.PublishMsg(once, m, jetstream.WithRetryAttempts(0))
		cancel()
		if err == nil || !repeated || ctx.Err() != nil {
			return tries, err
		}
		select {
		case <-ctx.Done():
			return tries, err
		case <-time.After(pause):
		}
	}
}
