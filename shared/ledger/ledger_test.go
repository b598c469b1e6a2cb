package ledger_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/topology"
)

func open(t *testing.T) *ledger.Ledger {
	t.Helper()
	l, err := ledger.OpenLedger(t.Context(), bustest.JetStream(t, topology.Options{}), time.Hour, time.Now)
	require.NoError(t, err)
	return l
}

func message(seq uint64, sha string, replay int) ledger.Entry {
	return ledger.Entry{
		SHA256: sha, Replay: replay,
		Owner: ledger.Owner{Stream: contract.StreamRaw, Seq: seq, Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)},
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	l := open(t)
	steps := []struct {
		name string
		e    ledger.Entry
		want ledger.Opening
	}{
		{"the first message is new", message(1, "a", 0), ledger.New},
		{"the same message comes again", message(1, "a", 0), ledger.Again},
		{"another one with the same bytes is a duplicate", message(2, "a", 0), ledger.Duplicate},
		{"another one with other bytes is a conflict", message(3, "b", 0), ledger.Conflict},
		{"a replay may have other bytes", message(4, "b", 1), ledger.Replayed},
		{"and come again", message(4, "b", 1), ledger.Again},
		{"the first one is then another message", message(1, "a", 0), ledger.Duplicate},
	}
	for _, s := range steps {
		got, e, err := l.Open(t.Context(), "f1", s.e)
		require.NoError(t, err)
		require.Equal(t, s.want, got, s.name)
		require.Equal(t, "a", e.SHA256, s.name)
	}
}

func take(t *testing.T, l *ledger.Ledger, workID string, replay int, kind ledger.Kind) ledger.Claim {
	t.Helper()
	c, _, err := l.Take(t.Context(), "f1", ledger.Holder{WorkID: workID, Replay: replay, Kind: kind}, ledger.Entry{})
	require.NoError(t, err)
	return c
}

func TestTake(t *testing.T) {
	t.Parallel()
	l := open(t)
	require.Equal(t, ledger.Won, take(t, l, "f1", 0, ledger.Completed), "a document that was never entered can end")
	require.Equal(t, ledger.Resumed, take(t, l, "f1", 0, ledger.Completed))
	require.Equal(t, ledger.Lost, take(t, l, "f1~x", 0, ledger.Completed))
	require.Equal(t, ledger.Turned, take(t, l, "f1", 0, ledger.Dead), "the same work may still end otherwise")
	holder := ledger.Holder{WorkID: "f1", Kind: ledger.Completed}
	require.NoError(t, l.Finish(t.Context(), "f1", holder))
	require.Equal(t, ledger.Finished, take(t, l, "f1", 0, ledger.Completed))
	require.Equal(t, ledger.Lost, take(t, l, "f1", 0, ledger.Dead), "but not once it is done")

	require.NoError(t, l.Replaying(t.Context(), "f1", 1))
	require.Equal(t, ledger.Lost, take(t, l, "f1", 0, ledger.Completed), "a lower replay count lost")
	require.Equal(t, ledger.Won, take(t, l, "f1", 1, ledger.Dead))
	require.NoError(t, l.Finish(t.Context(), "f1", holder), "who does not hold it marks nothing")
	e, err := l.Read(t.Context(), "f1")
	require.NoError(t, err)
	require.Equal(t, ledger.Taken, e.State)
	require.Equal(t, ledger.Won, take(t, l, "f1", 2, ledger.Completed), "a higher replay count replaces a lower one")
}

func TestOneOfManyWins(t *testing.T) {
	t.Parallel()
	l := open(t)
	var mu sync.Mutex
	won := 0
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			h := ledger.Holder{WorkID: string(rune('a' + i)), Kind: ledger.Completed}
			c, _, err := l.Take(context.Background(), "f1", h, ledger.Entry{})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			if c == ledger.Won {
				won++
			}
		})
	}
	all.Wait()
	require.Equal(t, 1, won)
}

func TestReadOfAnUnknownDocument(t *testing.T) {
	t.Parallel()
	_, err := open(t).Read(t.Context(), "nobody")
	require.ErrorIs(t, err, bus.ErrNotFound)
}
