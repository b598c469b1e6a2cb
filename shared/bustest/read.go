package bustest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/topology"
)

func runRead(t *testing.T, newBus Maker) {
	tests := []struct {
		name string
		run  func(t *testing.T, b bus.Bus)
	}{
		{"one message can be read without consuming it", reads},
		{"a scan yields all in order and consumes nothing", scans},
		{"a scan keeps to its filter and its beginning", scansFiltered},
		{"a scan ends at what was there when it began", scansToItsEnd},
		{"a scan is not confused by messages that look like control messages", scansStatus},
		{"a scan of nothing yields nothing", scansNothing},
		{"a time finds its sequence", findsTimes},
		{"a deleted message is gone", deletes},
		{"the state of a stream and its consumers can be read", informs},
		{"a cancelled context ends a call as unavailable", cancels},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, newBus(t, topology.Options{}))
		})
	}
}

func reads(t *testing.T, b bus.Bus) {
	publish(t, b, 3)
	m, err := b.Get(t.Context(), stream, 2)
	require.NoError(t, err)
	require.Equal(t, "body 1", string(m.Body))
	m, err = b.Last(t.Context(), stream, subject)
	require.NoError(t, err)
	require.Equal(t, "body 2", string(m.Body))
	require.EqualValues(t, 3, m.Seq)
	for _, seq := range []uint64{0, 4} {
		_, err = b.Get(t.Context(), stream, seq)
		require.ErrorIs(t, err, bus.ErrNotFound)
	}
	_, err = b.Last(t.Context(), stream, "llm.validate.high.nothing.here")
	require.ErrorIs(t, err, bus.ErrNotFound)
	_, err = b.Get(t.Context(), "NO_SUCH", 1)
	require.ErrorIs(t, err, bus.ErrNoStream)
	require.EqualValues(t, 3, messages(t, b, stream))
}

// scan returns the sequences that a scan yields.
func scan(t *testing.T, b bus.Bus, stream, filter string, from uint64) (seqs []uint64) {
	t.Helper()
	for m, err := range b.Scan(t.Context(), stream, filter, from) {
		require.NoError(t, err)
		seqs = append(seqs, m.Seq)
	}
	return seqs
}

func scans(t *testing.T, b bus.Bus) {
	const n = 700 // several batches
	publish(t, b, n)
	require.NoError(t, b.Delete(t.Context(), stream, 1))
	require.NoError(t, b.Delete(t.Context(), stream, 300))
	var want []uint64
	for seq := range uint64(n + 1) {
		if seq > 1 && seq != 300 {
			want = append(want, seq)
		}
	}
	require.Equal(t, want, scan(t, b, stream, "", 0))
	require.EqualValues(t, n-2, messages(t, b, stream))
	require.Equal(t, 1, next(t, consume(t, b, stream, consumer, 1)).Count())
}

func scansFiltered(t *testing.T, b bus.Bus) {
	for range 3 {
		for _, l := range contract.Lanes() {
			_, err := b.Publish(t.Context(), bus.Message{Subject: contract.StageSubject(stage, l, "t", "p"), Body: []byte(l)})
			require.NoError(t, err)
		}
	}
	require.Equal(t, []uint64{2, 5, 8}, scan(t, b, stream, "llm.validate.normal.>", 0))
	require.Equal(t, []uint64{5, 8}, scan(t, b, stream, "llm.validate.normal.>", 3))
	require.Equal(t, []uint64{8, 9}, scan(t, b, stream, "", 8))
	require.Empty(t, scan(t, b, stream, "", 10))
	require.Empty(t, scan(t, b, stream, "llm.validate.none.>", 0))
}

func scansToItsEnd(t *testing.T, b bus.Bus) {
	publish(t, b, 5)
	seen := 0
	for _, err := range b.Scan(t.Context(), stream, "", 0) {
		require.NoError(t, err)
		seen++
		publish(t, b, 1)
	}
	require.Equal(t, 5, seen)
	for _, err := range b.Scan(t.Context(), stream, "", 0) {
		require.NoError(t, err)
		break // leaving early is allowed
	}
	require.Len(t, scan(t, b, stream, "", 0), 10)
}

func scansStatus(t *testing.T, b bus.Bus) {
	publish(t, b, 2)
	for _, code := range []string{"204", "404", "408"} {
		h := bus.Header{"Status": code, "Description": "EOB", "Nats-Sequence": "99", "Nats-Num-Pending": "0"}
		require.NoError(t, b.Announce(subject, h, nil))
	}
	eventually(t, "all are stored", func() bool { return messages(t, b, stream) == 5 })
	publish(t, b, 2)
	require.Equal(t, []uint64{1, 2, 3, 4, 5, 6, 7}, scan(t, b, stream, "", 0))
	m, err := b.Get(t.Context(), stream, 3)
	require.NoError(t, err)
	require.Equal(t, "204", m.Header["Status"])
	require.Empty(t, m.Body)
}

func scansNothing(t *testing.T, b bus.Bus) {
	require.Empty(t, scan(t, b, stream, "", 0))
	require.Empty(t, scan(t, b, contract.StreamDLQ, "llm.dlq.>", 7))
	calls := 0
	for _, err := range b.Scan(t.Context(), "NO_SUCH", "", 0) {
		require.ErrorIs(t, err, bus.ErrNoStream)
		calls++
	}
	require.Equal(t, 1, calls)
}

func findsTimes(t *testing.T, b bus.Bus) {
	seq, err := b.SeqAt(t.Context(), stream, time.Now().Add(-time.Hour))
	require.NoError(t, err)
	require.EqualValues(t, 1, seq, "the next to be given")
	publish(t, b, 5)
	for m, err := range b.Scan(t.Context(), stream, "", 0) {
		require.NoError(t, err)
		seq, err := b.SeqAt(t.Context(), stream, m.Time)
		require.NoError(t, err)
		require.Equal(t, m.Seq, seq)
	}
	for at, want := range map[time.Time]uint64{
		time.Now().Add(-time.Hour): 1,
		time.Now().Add(time.Hour):  6,
	} {
		seq, err := b.SeqAt(t.Context(), stream, at)
		require.NoError(t, err)
		require.Equal(t, want, seq)
	}
}

func deletes(t *testing.T, b bus.Bus) {
	publish(t, b, 3)
	require.NoError(t, b.Delete(t.Context(), stream, 2))
	require.ErrorIs(t, b.Delete(t.Context(), stream, 2), bus.ErrNotFound)
	require.ErrorIs(t, b.Delete(t.Context(), stream, 99), bus.ErrNotFound)
	require.ErrorIs(t, b.Delete(t.Context(), "NO_SUCH", 1), bus.ErrNoStream)
	_, err := b.Get(t.Context(), stream, 2)
	require.ErrorIs(t, err, bus.ErrNotFound)
	require.Equal(t, []uint64{1, 3}, scan(t, b, stream, "", 0))
	_, err = b.Publish(t.Context(), bus.Message{Subject: "llm.audit.me.replay", Body: []byte("1")})
	require.NoError(t, err)
	require.Error(t, b.Delete(t.Context(), contract.StreamAudit, 1), "the audit is never cut")
	require.EqualValues(t, 1, messages(t, b, contract.StreamAudit))
}

func informs(t *testing.T, b bus.Bus) {
	publish(t, b, 5)
	c := consume(t, b, stream, consumer, 2)
	require.NoError(t, next(t, c).Ack(t.Context()))
	next(t, c)
	next(t, c)
	info, err := b.Info(t.Context(), stream)
	require.NoError(t, err)
	require.EqualValues(t, 4, info.Messages)
	require.NotZero(t, info.Bytes)
	require.EqualValues(t, 2, info.FirstSeq)
	require.EqualValues(t, 5, info.LastSeq)
	require.Len(t, info.Consumers, 3)
	for _, i := range info.Consumers {
		if i.Name == consumer {
			require.Equal(t, bus.ConsumerInfo{Name: consumer, Pending: 2, AckPending: 2}, i)
		}
	}
	require.NoError(t, b.Ready(t.Context()))
}

func cancels(t *testing.T, b bus.Bus) {
	publish(t, b, 1)
	d := next(t, consume(t, b, stream, consumer, 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, publishErr := b.Publish(ctx, bus.Message{Subject: subject, Body: []byte("1")})
	_, getErr := b.Get(ctx, stream, 1)
	_, infoErr := b.Info(ctx, stream)
	for _, err := range []error{publishErr, getErr, infoErr, d.Ack(ctx), b.Ready(ctx)} {
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
	}
	require.NoError(t, d.Ack(t.Context()))
}
