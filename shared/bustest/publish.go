package bustest

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/topology"
)

func runPublish(t *testing.T, newBus Maker) {
	tests := []struct {
		name string
		o    topology.Options
		run  func(t *testing.T, b bus.Bus)
	}{
		{"a published message is stored as it was", topology.Options{}, storesAll},
		{"the same id twice stores once", topology.Options{}, storesOnce},
		{"what is gathered is stored once each", topology.Options{}, gathers},
		{"of what is gathered a full stream takes what fits", topology.Options{QueueMessages: 40}, gathersUntilFull},
		{"an id is forgotten after the window", topology.Options{Duplicates: time.Second}, forgetsIDs},
		{"a message without a body is a message", topology.Options{}, storesEmpty},
		{"a full stream refuses", topology.Options{QueueMessages: 3}, refusesWhenFull},
		{"a subject that nobody takes is an error", topology.Options{}, refusesUnknownSubject},
		{"what would steer the broker is refused", topology.Options{}, refusesReserved},
		{"a message that is too large is refused", topology.Options{}, refusesTooLarge},
		{"an announcement reaches who listens", topology.Options{}, announces},
		{"a stored message leaves its headers on the timeline", topology.Options{}, republishes},
		{"of each result only the newest is kept", topology.Options{}, keepsNewestResult},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, newBus(t, tt.o))
		})
	}
}

func storesAll(t *testing.T, b bus.Bus) {
	before := time.Now().Add(-time.Second)
	r, err := b.Publish(t.Context(), bus.Message{
		Subject: subject, ID: "a:validate:0:r0", Body: []byte("body"),
		Header: bus.Header{contract.HeaderFileID: "a", contract.HeaderTrace: "00-1", contract.HeaderError: "two\nlines ü"},
	})
	require.NoError(t, err)
	require.Equal(t, bus.Receipt{Stream: stream, Seq: 1}, r)
	m, err := b.Get(t.Context(), stream, 1)
	require.NoError(t, err)
	require.Equal(t, stream, m.Stream)
	require.EqualValues(t, 1, m.Seq)
	require.Equal(t, subject, m.Subject)
	require.Equal(t, "body", string(m.Body))
	require.Equal(t, "a", m.Header[contract.HeaderFileID])
	require.Equal(t, "00-1", m.Header[contract.HeaderTrace])
	require.Equal(t, "two lines ü", m.Header[contract.HeaderError])
	require.True(t, m.Time.After(before) && m.Time.Before(time.Now().Add(time.Second)), m.Time)
}

func storesEmpty(t *testing.T, b bus.Bus) {
	_, err := b.Publish(t.Context(), bus.Message{Subject: subject})
	require.NoError(t, err)
	_, err = b.Publish(t.Context(), bus.Message{Subject: subject, Header: bus.Header{contract.HeaderFileID: "a"}})
	require.NoError(t, err)
	require.Equal(t, []uint64{1, 2}, scan(t, b, stream, "", 0))
	c := consume(t, b, stream, consumer, 2)
	for _, id := range []string{"", "a"} {
		d := next(t, c)
		require.Empty(t, d.Message().Body)
		require.Equal(t, id, d.Message().Header[contract.HeaderFileID])
		require.NoError(t, d.Ack(t.Context()))
	}
}

func storesOnce(t *testing.T, b bus.Bus) {
	m := bus.Message{Subject: subject, ID: "a", Body: []byte("1")}
	first, err := b.Publish(t.Context(), m)
	require.NoError(t, err)
	require.False(t, first.Duplicate)
	second, err := b.Publish(t.Context(), m)
	require.NoError(t, err)
	require.Equal(t, bus.Receipt{Stream: stream, Seq: first.Seq, Duplicate: true}, second)
	m.ID = "b"
	third, err := b.Publish(t.Context(), m)
	require.NoError(t, err)
	require.False(t, third.Duplicate)
	require.EqualValues(t, 2, messages(t, b, stream))
}

func forgetsIDs(t *testing.T, b bus.Bus) {
	m := bus.Message{Subject: subject, ID: "a", Body: []byte("1")}
	_, err := b.Publish(t.Context(), m)
	require.NoError(t, err)
	eventually(t, "the id is taken again", func() bool {
		r, err := b.Publish(t.Context(), m)
		require.NoError(t, err)
		return !r.Duplicate
	})
}

func refusesWhenFull(t *testing.T, b bus.Bus) {
	receipts := publish(t, b, 3)
	_, err := b.Publish(t.Context(), bus.Message{Subject: subject, Body: []byte("too many")})
	require.ErrorIs(t, err, bus.ErrFull)
	require.Equal(t, fault.Unavailable, fault.Of(err).Kind, "a full queue is nobody's attempt")
	require.EqualValues(t, 3, messages(t, b, stream), "nothing was dropped")
	require.NoError(t, b.Delete(t.Context(), stream, receipts[0].Seq))
	publish(t, b, 1)
}

func refusesUnknownSubject(t *testing.T, b bus.Bus) {
	_, err := b.Publish(t.Context(), bus.Message{Subject: "nobody.takes.this", Body: []byte("1")})
	require.ErrorIs(t, err, bus.ErrNoStream)
	require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
	_, err = b.Info(t.Context(), "NO_SUCH")
	require.ErrorIs(t, err, bus.ErrNoStream)
	_, err = b.Consume(t.Context(), "NO_SUCH", consumer, 1, func(bus.Delivery) {})
	require.ErrorIs(t, err, bus.ErrNoStream)
	_, err = b.Consume(t.Context(), stream, "no-such", 1, func(bus.Delivery) {})
	require.ErrorIs(t, err, bus.ErrNoConsumer)
	_, err = b.KV(t.Context(), "NO_SUCH")
	require.ErrorIs(t, err, bus.ErrNoStream)
}

func refusesReserved(t *testing.T, b bus.Bus) {
	for _, m := range []bus.Message{
		{Subject: "llm.validate.*.a.b", Body: []byte("1")},
		{Subject: "llm.validate.>", Body: []byte("1")},
		{Subject: "llm.validate..a", Body: []byte("1")},
		{Subject: "llm.validate.a b", Body: []byte("1")},
		{Subject: "", Body: []byte("1")},
		{Subject: subject, Body: []byte("1"), Header: bus.Header{"Status": "503"}},
		{Subject: subject, Body: []byte("1"), Header: bus.Header{"Nats-Rollup": "all"}},
		{Subject: subject, Body: []byte("1"), Header: bus.Header{"nats-ttl": "1s"}},
		{Subject: subject, Body: []byte("1"), Header: bus.Header{"a:b": "1"}},
		{Subject: subject, Body: []byte("1"), Header: bus.Header{"": "1"}},
	} {
		_, err := b.Publish(t.Context(), m)
		require.Error(t, err, "%+v", m)
		require.Equal(t, fault.Transient, fault.Of(err).Kind, "%+v", m)
	}
	require.Zero(t, messages(t, b, stream))
}

func refusesTooLarge(t *testing.T, b bus.Bus) {
	_, err := b.Publish(t.Context(), bus.Message{Subject: subject, Body: bytes.Repeat([]byte("x"), MaxPayload+1)})
	require.ErrorIs(t, err, bus.ErrTooLarge)
	require.NotEqual(t, fault.Unavailable, fault.Of(err).Kind, "waiting does not help")
	_, err = b.Publish(t.Context(), bus.Message{Subject: subject, Body: bytes.Repeat([]byte("x"), MaxPayload-100)})
	require.NoError(t, err)
	m, err := b.Get(t.Context(), stream, 1)
	require.NoError(t, err)
	require.Len(t, m.Body, MaxPayload-100)
}

// listener is what both implementations offer beside bus.Bus.
type listener interface {
	Listen(filter string, fn func(subject string, h bus.Header, body []byte)) (stop func(), err error)
}

func announces(t *testing.T, b bus.Bus) {
	l, ok := b.(listener)
	require.True(t, ok)
	type heard struct {
		subject, header, body string
	}
	c := make(chan heard, 10)
	stop, err := l.Listen("news.*", func(subject string, h bus.Header, body []byte) {
		c <- heard{subject, h["Kind"], string(body)}
	})
	require.NoError(t, err)
	t.Cleanup(stop)
	require.NoError(t, b.Announce("other.a", nil, []byte("0")))
	require.NoError(t, b.Announce("news.a", bus.Header{"Kind": "k"}, []byte("1")))
	select {
	case got := <-c:
		require.Equal(t, heard{"news.a", "k", "1"}, got)
	case <-time.After(patience):
		require.FailNow(t, "nothing was heard")
	}
	require.Error(t, b.Announce("news.*", nil, nil))
}

func republishes(t *testing.T, b bus.Bus) {
	_, err := b.Publish(t.Context(), bus.Message{
		Subject: subject, ID: "a", Header: bus.Header{contract.HeaderFileID: "a"}, Body: []byte("body"),
	})
	require.NoError(t, err)
	want := contract.RootTimeline + subject[len("llm"):]
	eventually(t, "the timeline has it", func() bool { return messages(t, b, contract.StreamTimeline) > 0 })
	for m, err := range b.Scan(t.Context(), contract.StreamTimeline, "", 0) {
		require.NoError(t, err)
		require.EqualValues(t, 1, m.Seq)
		require.Equal(t, contract.StreamTimeline, m.Stream)
		require.Equal(t, want, m.Subject)
		require.Empty(t, m.Body)
		require.Equal(t, "a", m.Header[contract.HeaderFileID])
		require.Equal(t, subject, m.Header["Nats-Subject"], "where it was stored first")
		require.Equal(t, stream, m.Header["Nats-Stream"])
	}
	m, err := b.Last(t.Context(), contract.StreamTimeline, want)
	require.NoError(t, err)
	require.Equal(t, "a", m.Header[contract.HeaderFileID])
}

func keepsNewestResult(t *testing.T, b bus.Bus) {
	for _, body := range []string{"1", "2"} {
		_, err := b.Publish(t.Context(), bus.Message{Subject: contract.ResultSubject("a"), Body: []byte(body)})
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, messages(t, b, contract.StreamResult))
	m, err := b.Last(t.Context(), contract.StreamResult, contract.ResultSubject("a"))
	require.NoError(t, err)
	require.Equal(t, "2", string(m.Body))
}

// gathers publishes much at the same time under Gather, among it an id that is known already
// and one that comes twice.
func gathers(t *testing.T, b bus.Bus) {
	const n = 150
	known, err := b.Publish(t.Context(), bus.Message{Subject: subject, ID: "id-7", Body: []byte("7")})
	require.NoError(t, err)
	receipts := make([]bus.Receipt, n)
	errs := make([]error, n)
	ctx := bus.Gather(t.Context())
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			m := bus.Message{Subject: subject, ID: fmt.Sprintf("id-%d", i), Body: []byte(strconv.Itoa(i))}
			if i == n-1 {
				m.ID = "id-0"
			}
			receipts[i], errs[i] = b.Publish(ctx, m)
		})
	}
	all.Wait()
	seqs := map[uint64]bool{}
	for i := range n {
		require.NoError(t, errs[i])
		require.Equal(t, stream, receipts[i].Stream)
		m, err := b.Get(t.Context(), stream, receipts[i].Seq)
		require.NoError(t, err)
		if !receipts[i].Duplicate {
			require.Equal(t, strconv.Itoa(i), string(m.Body), "each is told its own place")
		}
		seqs[receipts[i].Seq] = true
	}
	require.True(t, receipts[7].Duplicate)
	require.Equal(t, known.Seq, receipts[7].Seq)
	require.NotEqual(t, receipts[0].Duplicate, receipts[n-1].Duplicate, "one of the two")
	require.Len(t, seqs, n-1)
	require.EqualValues(t, n-1, messages(t, b, stream))
}

// gathersUntilFull fills a stream under Gather: each publish is stored or refused.
func gathersUntilFull(t *testing.T, b bus.Bus) {
	const n = 100
	var stored atomic.Int64
	ctx := bus.Gather(t.Context())
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			_, err := b.Publish(ctx, bus.Message{Subject: subject, ID: strconv.Itoa(i), Body: []byte("x")})
			if err == nil {
				stored.Add(1)
				return
			}
			if !errors.Is(err, bus.ErrFull) {
				t.Errorf("publish %d: %v", i, err)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 40, stored.Load())
	require.EqualValues(t, 40, messages(t, b, stream))
}
