package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/jobspy/millrace/shared/codec"
)

const (
	// gatherLinger is how long a write waits at most for others to the same stream.
	gatherLinger = 80 * time.Millisecond
	// gatherFull is the number of writes, and gatherBytes that of bytes, that are sent at once.
	gatherFull  = 64
	gatherBytes = 1 << 20
	// gatherFrom is the number of writes from which a batch is cheaper than one by one: the
	// broker makes and removes a folder for each batch.
	gatherFrom = 24
	// gatherOff is how long a stream that takes no batches is not asked again.
	gatherOff = time.Minute
)

type gatherKey struct{}

// Gather returns a context whose writes may wait for a few milliseconds to be stored together
// with others: a batch costs the broker one write to the disk instead of one for each. It is
// for work that has much more behind it; what each caller is told does not change.
func Gather(ctx context.Context) context.Context { return context.WithValue(ctx, gatherKey{}, true) }

func gathers(ctx context.Context) bool { return ctx.Value(gatherKey{}) != nil }

// gatherer holds the writes that wait for others, by stream.
type gatherer struct {
	j *JetStream

	mu      sync.Mutex
	baskets map[string]*basket
}

// basket is what waits for one stream. It is guarded by gatherer.mu.
type basket struct {
	writes []*gathered
	bytes  int
	serial int       // counts the flushes, so that an old timer does not flush what came later
	off    time.Time // until when the stream is known to take no batches
}

// gathered is a write that waits.
type gathered struct {
	m    *nats.Msg
	done chan answer // buffered
}

type answer struct {
	ack pubAck
	err error
}

// streamOf names the stream that takes a subject: in all our subjects two tokens tell.
func streamOf(subject string) string {
	first, rest, _ := strings.Cut(subject, ".")
	second, _, _ := strings.Cut(rest, ".")
	return first + "." + second
}

// send is JetStream.request for a write that may wait for others.
func (g *gatherer) send(ctx context.Context, m *nats.Msg) (pubAck, error) {
	w := &gathered{m: m, done: make(chan answer, 1)}
	key := streamOf(m.Subject)
	g.mu.Lock()
	b := g.baskets[key]
	if b == nil {
		b = &basket{}
		g.baskets[key] = b
	}
	if time.Now().Before(b.off) {
		g.mu.Unlock()
		return g.j.request(ctx, m)
	}
	b.writes = append(b.writes, w)
	b.bytes += len(m.Data)
	var full []*gathered
	if len(b.writes) >= gatherFull || b.bytes >= gatherBytes {
		full = b.empty()
	} else if len(b.writes) == 1 {
		serial := b.serial
		time.AfterFunc(gatherLinger, func() { g.late(key, serial) })
	}
	g.mu.Unlock()
	if full != nil {
		go g.flush(key, full) //nolint:gosec // the answer is that of many callers, none of whose contexts counts
	}
	select {
	case a := <-w.done:
		return a.ack, a.err
	case <-ctx.Done():
		return pubAck{}, context.Cause(ctx)
	}
}

// empty takes everything out of the basket.
func (b *basket) empty() []*gathered {
	all := b.writes
	b.writes, b.bytes = nil, 0
	b.serial++
	return all
}

// late flushes a basket that did not get full in time.
func (g *gatherer) late(key string, serial int) {
	g.mu.Lock()
	b := g.baskets[key]
	var all []*gathered
	if b.serial == serial {
		all = b.empty()
	}
	g.mu.Unlock()
	g.flush(key, all)
}

// flush sends writes to one stream and answers each. A batch that is refused as a whole, say
// because it holds an id that the stream knows, is sent one by one, which is safe: a refused
// batch has stored nothing.
func (g *gatherer) flush(key string, all []*gathered) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	if len(all) >= gatherFrom {
		last, err := g.batch(ctx, all)
		refused, isRefusal := errors.AsType[*apiError](err)
		switch {
		case err == nil:
			for i, w := range all {
				ack := last
				ack.Seq = last.Seq - uint64(len(all)-1-i)
				w.done <- answer{ack: ack}
			}
			return
		case !isRefusal:
			for _, w := range all {
				w.done <- answer{err: err}
			}
			return
		case refused.ErrCode == codeNoBatches:
			g.mu.Lock()
			g.baskets[key].off = time.Now().Add(gatherOff)
			g.mu.Unlock()
		}
	}
	var each sync.WaitGroup
	for _, w := range all {
		each.Go(func() {
			ack, err := g.j.request(ctx, w.m)
			w.done <- answer{ack, err}
		})
	}
	each.Wait()
}

// batch publishes all in one atomic batch and returns the acknowledgement of the last one;
// the sequences of the others are those before it.
func (g *gatherer) batch(ctx context.Context, all []*gathered) (pubAck, error) {
	id := nuid.Next()
	for i, w := range all {
		m := &nats.Msg{Subject: w.m.Subject, Data: w.m.Data, Header: make(nats.Header, len(w.m.Header)+3)}
		maps.Copy(m.Header, w.m.Header)
		m.Header[headerBatchID] = []string{id}
		m.Header[headerBatchSequence] = []string{strconv.Itoa(i + 1)}
		if i < len(all)-1 {
			if err := g.j.nc.PublishMsg(m); err != nil {
				return pubAck{}, err
			}
			continue
		}
		m.Header[headerBatchCommit] = []string{"1"}
		return g.commit(ctx, m, len(all))
	}
	return pubAck{}, nil
}

// commit sends the last message of a batch of n.
func (g *gatherer) commit(ctx context.Context, m *nats.Msg, n int) (pubAck, error) {
	reply, err := g.j.ask(ctx, m)
	if err != nil {
		return pubAck{}, err
	}
	var ack struct {
		pubAck
		Count int `json:"count"`
	}
	if err := codec.Unmarshal(reply.Data, &ack); err != nil {
		return pubAck{}, fmt.Errorf("read the broker's answer: %w", err)
	}
	g.j.answered(ack.Error)
	switch {
	case ack.Error != nil:
		return pubAck{}, ack.Error
	case ack.Stream == "" || ack.Count != n || ack.Seq < uint64(n):
		return pubAck{}, fmt.Errorf("a batch of %d was answered with %d messages up to %d of %q", n, ack.Count, ack.Seq, ack.Stream)
	}
	return ack.pubAck, nil
}
