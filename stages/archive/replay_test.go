package archive

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/letters"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/topology"
)

func TestATimerOfAReplayIsATurnAtIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		plan := topology.Plan(topology.Options{})
		b := &bundle{t: t, bus: bus.NewMemory(plan.Streams, plan.Buckets), objects: store.NewMemory(nil)}
		t.Cleanup(func() { require.NoError(t, b.bus.Close()) })
		deps := b.deps()
		var err error
		deps.Ledger, err = ledger.OpenLedger(t.Context(), b.bus, time.Hour, time.Now)
		require.NoError(t, err)
		_, err = b.bus.Publish(t.Context(), bus.Message{
			Subject: contract.DLQSubject(contract.Enrich, contract.ReasonExhausted), Body: []byte("{}"),
			Header: bus.Header{contract.HeaderFileID: "f1", contract.HeaderTask: "job_extraction", contract.HeaderProvider: "openai"},
		})
		require.NoError(t, err)
		q := letters.Queue{Bus: b.bus, Ledger: deps.Ledger}
		chosen, err := q.List(t.Context(), letters.Filter{})
		require.NoError(t, err)
		jobs := letters.Jobs{Bus: b.bus, Now: time.Now}
		j, err := jobs.Create(t.Context(), chosen, letters.Plan{}, "")
		require.NoError(t, err)

		turn := func() {
			in := &doc.Document{Timer: contract.CronReplay, Attempt: 1}
			in.Metadata.FileID = j.ID
			h := b.stage(nil, func(d *stage.Deps) { *d = deps })
			lasting, ok := h.(stage.Lasting)
			require.True(t, ok)
			require.Greater(t, lasting.Lasts(in), replayTurn)
			outs, err := h.Handle(t.Context(), in)
			require.NoError(t, err)
			require.Empty(t, outs)
		}
		kv, err := b.bus.KV(t.Context(), contract.KVJoin)
		require.NoError(t, err)
		_, err = kv.Create(t.Context(), letters.LeaseKey(j.ID), []byte("held"), replayLease)
		require.NoError(t, err)
		turn()
		now, err := jobs.Read(t.Context(), j.ID)
		require.NoError(t, err)
		require.Zero(t, now.Sent, "somebody else has the turn")
		pass(replayLease + time.Second)
		began := time.Now()
		turn()
		require.InDelta(t, replayTurn.Seconds(), time.Since(began).Seconds(), 3, "what has not ended is waited for")
		now, err = jobs.Read(t.Context(), j.ID)
		require.NoError(t, err)
		require.Equal(t, []any{letters.JobRunning, 1}, []any{now.State, now.Sent})
		working, err := jobs.Working(t.Context(), j.ID)
		require.NoError(t, err)
		require.False(t, working, "the turn was given back")
	})
}
