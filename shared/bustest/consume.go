package bustest

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/topology"
)

func runConsume(t *testing.T, newBus Maker) {
	tests := []struct {
		name string
		run  func(t *testing.T, b bus.Bus)
	}{
		{"each message is delivered once and its acknowledgement removes it", delivers},
		{"a consumer takes its lane and no other", takesItsLane},
		{"raw subjects of every length reach their lane", takesRaw},
		{"no more than the credits are delivered and unsettled", keepsCredits},
		{"two subscribers share the work", shares},
		{"a stopped subscription calls nobody any more", stops},
		{"settling twice is harmless", settlesTwice},
		{"a terminated message is gone", terminates},
		{"a message that looks like a control message is delivered like its neighbours", deliversStatus},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, newBus(t, topology.Options{}))
		})
	}
}

func delivers(t *testing.T, b bus.Bus) {
	c := consume(t, b, stream, consumer, 8)
	receipts := publish(t, b, 100)
	for _, r := range receipts {
		d := next(t, c)
		require.Equal(t, r.Seq, d.Message().Seq)
		require.Equal(t, subject, d.Message().Subject)
		require.Equal(t, stream, d.Message().Stream)
		require.Equal(t, consumer, d.Consumer())
		require.Equal(t, 1, d.Count())
		require.WithinDuration(t, time.Now(), d.Message().Time, patience)
		require.NoError(t, d.Ack(t.Context()))
	}
	require.Zero(t, messages(t, b, stream))
	silent(t, c, quiet)
}

func takesItsLane(t *testing.T, b bus.Bus) {
	for _, l := range contract.Lanes() {
		_, err := b.Publish(t.Context(), bus.Message{Subject: contract.StageSubject(stage, l, "t", "p"), Body: []byte(l)})
		require.NoError(t, err)
	}
	for _, l := range contract.Lanes() {
		c := consume(t, b, stream, contract.Consumer(stage, l), 5)
		require.Equal(t, string(l), string(next(t, c).Message().Body))
		silent(t, c, quiet/3)
	}
}

func takesRaw(t *testing.T, b bus.Bus) {
	subjects := map[string]contract.Lane{
		contract.RawSubject("t", "", ""):               contract.Normal,
		contract.RawSubject("t", "p", ""):              contract.Normal,
		contract.RawSubject("t", "p", contract.High):   contract.High,
		contract.RawSubject("t", "p", contract.Normal): contract.Normal,
		contract.RawSubject("t", "p", contract.Low):    contract.Low,
	}
	want := make(map[contract.Lane]int)
	for s, l := range subjects {
		_, err := b.Publish(t.Context(), bus.Message{Subject: s, Body: []byte(l)})
		require.NoError(t, err)
		want[l]++
	}
	_, err := b.Publish(t.Context(), bus.Message{Subject: "llm.raw.t.p.urgent", Body: []byte("1")})
	require.ErrorIs(t, err, bus.ErrNoStream, "nobody would take it")
	for l, n := range want {
		c := consume(t, b, contract.StreamRaw, contract.Consumer(contract.Ingest, l), 10)
		for range n {
			require.Equal(t, string(l), string(next(t, c).Message().Body))
		}
		silent(t, c, quiet/3)
	}
}

func keepsCredits(t *testing.T, b bus.Bus) {
	const credits, total = 5, 300
	publish(t, b, total)
	var held, most, seen atomic.Int64
	work := make(chan bus.Delivery, total)
	s, err := b.Consume(t.Context(), stream, consumer, credits, func(d bus.Delivery) {
		most.Store(max(most.Load(), held.Add(1)))
		work <- d
	})
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	eventually(t, "all credits are used", func() bool { return held.Load() == credits })
	for seen.Load() < total {
		d := next(t, work)
		held.Add(-1)
		require.NoError(t, d.Ack(t.Context()))
		seen.Add(1)
	}
	require.LessOrEqual(t, most.Load(), int64(credits))
	require.Zero(t, messages(t, b, stream))
}

func shares(t *testing.T, b bus.Bus) {
	one, two := consume(t, b, stream, consumer, 2), consume(t, b, stream, consumer, 2)
	publish(t, b, 4)
	for _, c := range []<-chan bus.Delivery{one, two, one, two} {
		next(t, c)
	}
}

func stops(t *testing.T, b bus.Bus) {
	var calls atomic.Int64
	first := make(chan bus.Delivery, 100)
	s, err := b.Consume(t.Context(), stream, consumer, 2, func(d bus.Delivery) {
		calls.Add(1)
		first <- d
	})
	require.NoError(t, err)
	publish(t, b, 10)
	d := next(t, first)
	s.Stop()
	s.Stop()
	called := calls.Load()
	require.NoError(t, d.Ack(t.Context()), "what was delivered may still be settled")
	require.Equal(t, called, calls.Load())
	// What was on its way goes to others at once.
	rest := consume(t, b, stream, consumer, 10)
	for range 10 - called {
		next(t, rest)
	}
}

func settlesTwice(t *testing.T, b bus.Bus) {
	publish(t, b, 2)
	c := consume(t, b, stream, consumer, 2)
	for range 2 {
		d := next(t, c)
		require.NoError(t, d.Ack(t.Context()))
		require.NoError(t, d.Ack(t.Context()))
		require.NoError(t, d.Progress())
		require.NoError(t, d.Nak())
		require.NoError(t, d.Term(t.Context(), "late"))
	}
	silent(t, c, quiet)
}

func terminates(t *testing.T, b bus.Bus) {
	publish(t, b, 1)
	c := consume(t, b, stream, consumer, 1)
	start := time.Now()
	require.NoError(t, next(t, c).Term(t.Context(), "schema: no"))
	require.Less(t, time.Since(start), 3*time.Second, "the broker confirms it")
	require.Zero(t, messages(t, b, stream))
	publish(t, b, 1)
	require.EqualValues(t, 2, next(t, c).Message().Seq, "its credit is free")
}

func deliversStatus(t *testing.T, b bus.Bus) {
	const neighbours = 20
	publish(t, b, neighbours/2)
	for _, code := range []string{"404", "408", "409", "100", "503"} {
		require.NoError(t, b.Announce(subject, bus.Header{"Status": code, "Description": "Consumer Deleted"}, nil))
	}
	publish(t, b, neighbours/2)
	eventually(t, "all are stored", func() bool { return messages(t, b, stream) == neighbours+5 })
	c := consume(t, b, stream, consumer, 2)
	start, strange := time.Now(), 0
	for range neighbours + 5 {
		d := next(t, c)
		if d.Message().Header["Status"] != "" {
			require.Empty(t, d.Message().Body)
			strange++
		}
		require.Equal(t, 1, d.Count())
		require.NoError(t, d.Ack(t.Context()))
	}
	require.Equal(t, 5, strange)
	require.Less(t, time.Since(start), 4*time.Second, "nothing stalled")
}
