package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/fault"
)

const (
	// batchMessages and batchBytes bound what one request of a scan brings into memory. The
	// last message of a batch may go over batchBytes.
	batchMessages = 256
	batchBytes    = 4 << 20
)

// batches reads a stream in batches over the direct-get interface, which works on a work
// queue without consuming.
type batches struct {
	j      *JetStream
	sub    *nats.Subscription
	inbox  string
	n      uint64
	stream string
	filter string
}

func (j *JetStream) openBatches(stream, filter string) (*batches, error) {
	b := &batches{j: j, inbox: j.nc.NewInbox(), stream: stream, filter: filter}
	var err error
	if b.sub, err = j.nc.SubscribeSync(b.inbox + ".*"); err != nil {
		return nil, fault.Down(err)
	}
	return b, nil
}

func (b *batches) close() { _ = b.sub.Unsubscribe() } // it fails only where the connection is closed

// read returns the next messages from sequence seq on and whether there may be more.
func (b *batches) read(ctx context.Context, seq uint64) (found []*Stored, more bool, err error) {
	req, err := codec.Marshal(getRequest{Seq: seq, NextFor: b.filter, Batch: batchMessages, MaxBytes: batchBytes})
	if err != nil {
		return nil, false, fmt.Errorf("write the request: %w", err)
	}
	b.n++
	reply := b.inbox + "." + strconv.FormatUint(b.n, 36)
	if err := b.j.nc.PublishRequest("$JS.API.DIRECT.GET."+b.stream, reply, req); err != nil {
		return nil, false, fault.Down(err)
	}
	for {
		m, err := b.receive(ctx)
		if err != nil {
			return nil, false, err
		}
		if m.Subject != reply {
			continue // of a batch that was left early
		}
		if m.Header == nil {
			return b.alone(ctx, found, seq)
		}
		if s := directStored(b.stream, m, true); s != nil {
			found = append(found, s)
			seq = s.Seq + 1
			continue
		}
		return b.end(found, m)
	}
}

// end reads what ends a batch.
func (b *batches) end(found []*Stored, m *nats.Msg) ([]*Stored, bool, error) {
	switch m.Header.Get(headerStatus) {
	case "204":
		return found, len(found) > 0 && m.Header.Get(headerNumPending) != "0", nil
	case "404":
		return found, false, nil
	default:
		return found, false, directError(m)
	}
}

// alone adds the next message as the leader has it, such as one whose headers cannot be read.
func (b *batches) alone(ctx context.Context, found []*Stored, seq uint64) ([]*Stored, bool, error) {
	s, err := b.j.get(ctx, b.stream, getRequest{Seq: seq, NextFor: b.filter})
	if errors.Is(err, ErrNotFound) {
		return found, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	return append(found, s), true, nil
}

// behind adds what the leader has behind the end of a batch from sequence seq on: the batch may
// have come from a copy that does not know everything yet.
func (b *batches) behind(ctx context.Context, found []*Stored, seq uint64) ([]*Stored, bool, error) {
	if len(found) > 0 {
		seq = found[len(found)-1].Seq + 1
	}
	return b.alone(ctx, found, seq)
}

func (b *batches) receive(ctx context.Context) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	m, err := b.sub.NextMsgWithContext(ctx)
	if err != nil {
		return nil, fault.Down(err)
	}
	return m, nil
}

// direct reads the newest message on a subject. Where several servers keep the stream, it may
// be that of a moment ago.
func (j *JetStream) direct(ctx context.Context, stream, subject string) (*Stored, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	m, err := j.ask(ctx, &nats.Msg{Subject: "$JS.API.DIRECT.GET." + stream + "." + subject})
	if errors.Is(err, nats.ErrNoResponders) {
		err = ErrNoStream
	}
	if err != nil {
		return nil, fault.Down(err)
	}
	j.link.heard()
	if s := directStored(stream, m, false); s != nil {
		return s, nil
	}
	return nil, directError(m)
}

func directError(m *nats.Msg) error {
	status := m.Header.Get(headerStatus)
	switch status {
	case "404":
		return ErrNotFound
	case "503":
		return fault.Down(ErrNoStream)
	default:
		return fault.Down(fmt.Errorf("broker answers %q", status+" "+m.Header.Get(headerDescription)))
	}
}

// directStored returns nil where m is no stored message. The broker adds its headers behind
// those of the message, which may have the same names: the last value is the broker's.
func directStored(stream string, m *nats.Msg, batch bool) *Stored {
	seq, err := strconv.ParseUint(takeLast(m.Header, headerSequence), 10, 64)
	if err != nil {
		return nil
	}
	s := &Stored{Stream: stream, Seq: seq, Subject: takeLast(m.Header, headerSubject), Body: m.Data}
	if t, err := time.Parse(time.RFC3339Nano, takeLast(m.Header, headerTimeStamp)); err == nil {
		s.Time = t
	}
	takeLast(m.Header, headerStream)
	if batch {
		takeLast(m.Header, headerNumPending)
		takeLast(m.Header, headerLastSequence)
	}
	s.Header = flatten(m.Header)
	return s
}

// takeLast removes the last value of a header and returns it.
func takeLast(h nats.Header, name string) string {
	values := h[name]
	if len(values) == 0 {
		return ""
	}
	last := values[len(values)-1]
	if values = values[:len(values)-1]; len(values) == 0 {
		delete(h, name)
	} else {
		h[name] = values
	}
	return last
}
