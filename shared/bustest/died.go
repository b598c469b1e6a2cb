package bustest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/topology"
)

// runDied is what a process leaves behind that dies, stands still or gets no answer: the
// simulation of the line stands on it.
func runDied(t *testing.T, newBus Maker) {
	tests := []struct {
		name string
		o    topology.Options
		run  func(t *testing.T, b bus.Bus)
	}{
		{"what a dead subscriber had in hand goes to the next one when its time is over", topology.Options{AckWait: shortAckWait}, inherits},
		{"what nobody settles in time is given up as what is given back", topology.Options{AckWait: shortAckWait, MaxDeliver: 2}, givesUpUnsettled},
		{"what was given up can still be acknowledged", topology.Options{AckWait: shortAckWait, MaxDeliver: 1}, acksGivenUp},
		{"giving back an earlier delivery brings one more", topology.Options{AckWait: shortAckWait}, naksLate},
		{"progress of an earlier delivery keeps the message", topology.Options{AckWait: shortAckWait}, progressesLate},
		{"an acknowledged message's id is still known", topology.Options{}, knowsAcknowledged},
		{"a known id is a duplicate for a full stream too", topology.Options{QueueMessages: 2}, knowsWhenFull},
		{"a full stream takes more when one is acknowledged", topology.Options{QueueMessages: 2}, takesWhenAcked},
		{"a duplicate does not prolong the memory of its id", topology.Options{Duplicates: 2 * time.Second}, forgetsInTime},
		{"a deleted message is not delivered again", topology.Options{AckWait: shortAckWait}, forgetsDeleted},
		{"a new schedule leaves what is due", topology.Options{}, leavesDue},
		{"what is due comes again as any other", topology.Options{AckWait: shortAckWait}, redeliversDue},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, newBus(t, tt.o))
		})
	}
}

func inherits(t *testing.T, b bus.Bus) {
	publish(t, b, 1)
	got := make(chan bus.Delivery, 10)
	dying, err := b.Consume(t.Context(), stream, consumer, 4, func(d bus.Delivery) { got <- d })
	require.NoError(t, err)
	start := time.Now()
	require.Equal(t, 1, next(t, got).Count())
	dying.Stop()
	c := consume(t, b, stream, consumer, 4)
	d := next(t, c)
	require.GreaterOrEqual(t, time.Since(start), shortAckWait*9/10)
	require.Equal(t, 2, d.Count())
	require.NoError(t, d.Ack(t.Context()))
	require.Zero(t, messages(t, b, stream))
}

func givesUpUnsettled(t *testing.T, b bus.Bus) {
	publish(t, b, 1)
	c := consume(t, b, stream, consumer, 4)
	advisories := consume(t, b, contract.StreamAdvisory, contract.AdvisoryConsumer(stage), 1)
	next(t, c)
	require.Equal(t, 2, next(t, c).Count())
	require.Contains(t, string(next(t, advisories).Message().Body), `"deliveries":2`)
	silent(t, c, 2*shortAckWait)
	require.EqualValues(t, 1, messages(t, b, stream), "it stays")
}

func acksGivenUp(t *testing.T, b bus.Bus) {
	publish(t, b, 1)
	c := consume(t, b, stream, consumer, 4)
	advisories := consume(t, b, contract.StreamAdvisory, contract.AdvisoryConsumer(stage), 1)
	d := next(t, c)
	next(t, advisories)
	require.NoError(t, d.AckLazily())
	eventually(t, "it is gone", func() bool { return messages(t, b, stream) == 0 })
}

func naksLate(t *testing.T, b bus.Bus) {
	publish(t, b, 1)
	c := consume(t, b, stream, consumer, 4)
	first := next(t, c)
	second := next(t, c)
	require.Equal(t, 2, second.Count())
	start := time.Now()
	require.NoError(t, first.Nak())
	require.Equal(t, 3, next(t, c).Count())
	require.Less(t, time.Since(start), shortAckWait*9/10, "at once")
	require.NoError(t, second.Ack(t.Context()))
	silent(t, c, 2*shortAckWait)
	require.Zero(t, messages(t, b, stream))
}

func progressesLate(t *testing.T, b bus.Bus) {
	publish(t, b, 1)
	c := consume(t, b, stream, consumer, 4)
	first := next(t, c)
	second := next(t, c)
	for range 6 {
		require.NoError(t, first.Progress())
		silent(t, c, shortAckWait/3)
	}
	require.NoError(t, second.Ack(t.Context()))
}

func knowsAcknowledged(t *testing.T, b bus.Bus) {
	c := consume(t, b, stream, consumer, 4)
	m := bus.Message{Subject: subject, ID: "a", Body: []byte("1")}
	_, err := b.Publish(t.Context(), m)
	require.NoError(t, err)
	require.NoError(t, next(t, c).Ack(t.Context()))
	r, err := b.Publish(t.Context(), m)
	require.NoError(t, err)
	require.Equal(t, bus.Receipt{Stream: stream, Seq: 1, Duplicate: true}, r)
	silent(t, c, quiet)
}

func knowsWhenFull(t *testing.T, b bus.Bus) {
	for i := range 2 {
		_, err := b.Publish(t.Context(), bus.Message{Subject: subject, ID: fmt.Sprint(i), Body: []byte("1")})
		require.NoError(t, err)
	}
	_, err := b.Publish(t.Context(), bus.Message{Subject: subject, ID: "2", Body: []byte("1")})
	require.ErrorIs(t, err, bus.ErrFull)
	r, err := b.Publish(t.Context(), bus.Message{Subject: subject, ID: "1", Body: []byte("1")})
	require.NoError(t, err)
	require.Equal(t, bus.Receipt{Stream: stream, Seq: 2, Duplicate: true}, r)
}

func takesWhenAcked(t *testing.T, b bus.Bus) {
	publish(t, b, 2)
	m := bus.Message{Subject: subject, ID: "third", Body: []byte("1")}
	_, err := b.Publish(t.Context(), m)
	require.ErrorIs(t, err, bus.ErrFull)
	require.NoError(t, next(t, consume(t, b, stream, consumer, 1)).Ack(t.Context()))
	r, err := b.Publish(t.Context(), m)
	require.NoError(t, err)
	require.False(t, r.Duplicate, "what was refused is not remembered")
}

func forgetsInTime(t *testing.T, b bus.Bus) {
	m := bus.Message{Subject: subject, ID: "a", Body: []byte("1")}
	_, err := b.Publish(t.Context(), m)
	require.NoError(t, err)
	eventually(t, "the id is taken again although it was tried all the time", func() bool {
		r, err := b.Publish(t.Context(), m)
		require.NoError(t, err)
		return !r.Duplicate
	})
}

func forgetsDeleted(t *testing.T, b bus.Bus) {
	publish(t, b, 1)
	c := consume(t, b, stream, consumer, 1)
	d := next(t, c)
	require.NoError(t, b.Delete(t.Context(), stream, d.Message().Seq))
	silent(t, c, 2*shortAckWait)
	require.NoError(t, d.AckLazily(), "harmless")
	publish(t, b, 1)
	require.EqualValues(t, 2, next(t, c).Message().Seq, "its credit is free")
}

func leavesDue(t *testing.T, b bus.Bus) {
	c := due(t, b, stage)
	m := bus.Message{Subject: retrySubject, Body: []byte("first")}
	require.NoError(t, b.Schedule(t.Context(), m, time.Now(), dueSubject))
	first := next(t, c)
	m.Body = []byte("second")
	require.NoError(t, b.Schedule(t.Context(), m, time.Now().Add(time.Second), dueSubject))
	require.NoError(t, first.Nak())
	again := next(t, c)
	require.Equal(t, "first", string(again.Message().Body))
	require.NoError(t, again.Ack(t.Context()))
	second := next(t, c)
	require.Equal(t, "second", string(second.Message().Body))
	require.NoError(t, second.Ack(t.Context()))
	require.Zero(t, work(t, b))
}

func redeliversDue(t *testing.T, b bus.Bus) {
	c := due(t, b, stage)
	m := bus.Message{Subject: retrySubject, Body: []byte("1")}
	require.NoError(t, b.Schedule(t.Context(), m, time.Now(), dueSubject))
	require.Equal(t, 1, next(t, c).Count())
	d := next(t, c)
	require.Equal(t, 2, d.Count())
	require.NoError(t, d.Ack(t.Context()))
	silent(t, c, 2*shortAckWait)
}
