package stage_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/topology"
)

// deliver takes the first message of the validate stage at least n times and hands it back,
// as if its process had died each time.
func deliver(t *testing.T, b *bus.JetStream, n int) {
	t.Helper()
	times := make(chan bus.Delivery, 100)
	sub, err := b.Consume(t.Context(), "LLM_VALIDATE", "validate-normal", 1, func(d bus.Delivery) { times <- d })
	require.NoError(t, err)
	for range n {
		require.NoError(t, (<-times).Nak())
	}
	sub.Stop()
	for len(times) > 0 {
		require.NoError(t, (<-times).Nak())
	}
}

// othersInHand reports whether the validate stage has been given all that it may hold, or
// all that there is.
func othersInHand(t *testing.T, b *bus.JetStream) bool {
	t.Helper()
	info, err := b.Info(t.Context(), "LLM_VALIDATE")
	if err != nil {
		t.Error(err)
		return true
	}
	n := 0
	for _, c := range info.Consumers {
		n += c.AckPending
	}
	return n >= min(config().Prefetch, int(info.Messages))
}

func TestADocumentThatMayHaveCrashedItsProcessRunsAlone(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{})
	sender := &rig{t: t, bus: b}
	sender.send(envelope("suspect"))
	deliver(t, b, 2)
	for i := range 20 {
		sender.send(envelope(fmt.Sprintf("f%d", i)))
	}
	var running, together atomic.Int64
	var alone atomic.Bool
	r := setup(t, options{bus: b}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
		if running.Add(1) > 1 && alone.Load() {
			together.Add(1)
		}
		defer running.Add(-1)
		if in.Metadata.FileID == "suspect" {
			alone.Store(true)
			defer alone.Store(false)
			if running.Load() > 1 {
				together.Add(1)
			}
			for !othersInHand(t, b) { // they could come in now, were they let in
				runtime.Gosched()
			}
		}
		return next(in), nil
	}))
	r.until("LLM_ENRICH", 21)
	require.Zero(t, together.Load())
}

func TestWhatWasDeliveredTooOften(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		mark string
		dead bool
	}{
		{"begins afresh where it did not run alone", "", false},
		{"begins afresh where it ran alone, but not at last", "2/1", false},
		{"begins afresh where it ran alone only at last", "3/0", false},
		{"is a dead letter where it ran alone at last and before", "3/1", true},
		{"is a dead letter where the release before ran it alone", "validate", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := bustest.JetStream(t, topology.Options{MaxDeliver: 3})
			sender := &rig{t: t, bus: b}
			body := sender.send(envelope("f1"))
			deliver(t, b, 3)
			if tt.mark != "" {
				kv, err := b.KV(t.Context(), contract.KVCache)
				require.NoError(t, err)
				_, err = kv.Put(t.Context(), "alone.LLM_VALIDATE.1", []byte(tt.mark), time.Minute)
				require.NoError(t, err)
			}
			r := setup(t, options{bus: b}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
				return next(in), nil
			}))
			if !tt.dead {
				require.Equal(t, "1", r.until("LLM_ENRICH", 1)[0].Header[contract.HeaderAttempt])
			} else {
				letter := r.until(contract.StreamDLQ, 1)[0]
				require.Equal(t, "llm.dlq.validate.panic", letter.Subject)
				require.Equal(t, body, letter.Body)
			}
			r.until("LLM_VALIDATE", 0)
		})
	}
}

func TestARecordThatWasPublishedBeforeACrashIsNotPublishedAgain(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{})
	subject := contract.CompletedSubject("job_extraction", "openai")
	r := setup(t, options{bus: b}, handle(func(_ context.Context, _ *doc.Document) ([]stage.Output, error) {
		return []stage.Output{{Subject: subject, Body: []byte("{}"), Terminal: true}}, nil
	}))
	// What a process leaves that dies after publishing, longer ago than the broker remembers ids.
	claim, _, err := r.ledger.Take(t.Context(), "f1", ledger.Holder{WorkID: "f1", Kind: ledger.Completed}, ledger.Entry{})
	require.NoError(t, err)
	require.Equal(t, ledger.Won, claim)
	_, err = b.Publish(t.Context(), bus.Message{Subject: subject, Header: bus.Header{contract.HeaderFileID: "f1"}, Body: []byte("{}")})
	require.NoError(t, err)

	r.send(envelope("f1"))
	r.until("LLM_VALIDATE", 0)
	require.Len(t, r.all(contract.StreamCompleted), 1)
	e, err := r.ledger.Read(t.Context(), "f1")
	require.NoError(t, err)
	require.Equal(t, ledger.Done, e.State)
}

// At ingest many messages may have the file_id of a document that was given up. One that is
// delivered again ends as it would have the first time.
func TestADuplicateOfADeadDocumentThatComesAgainIsNoDeadLetter(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{})
	ledgers, err := ledger.OpenLedger(t.Context(), b, time.Hour, time.Now)
	require.NoError(t, err)
	first := ledger.Holder{WorkID: "f1", Kind: ledger.Dead}
	_, _, err = ledgers.Take(t.Context(), "f1", first, ledger.Entry{
		Owner: ledger.Owner{Stream: contract.StreamRaw, Seq: 99, Time: time.Now()}, Stage: contract.Ingest, Reason: contract.ReasonMalformed,
	})
	require.NoError(t, err)
	require.NoError(t, ledgers.Finish(t.Context(), "f1", first))
	_, err = b.Publish(t.Context(), bus.Message{
		Subject: "llm.raw.job_extraction.openai", Header: bus.Header{contract.HeaderFileID: "f1"}, Body: []byte("{}"),
	})
	require.NoError(t, err)
	times := make(chan bus.Delivery, 10)
	sub, err := b.Consume(t.Context(), contract.StreamRaw, "ingest-normal", 1, func(d bus.Delivery) { times <- d })
	require.NoError(t, err)
	require.NoError(t, (<-times).Nak())
	sub.Stop()
	for len(times) > 0 {
		require.NoError(t, (<-times).Nak())
	}

	r := setup(t, options{bus: b, stage: contract.Ingest}, handle(func(context.Context, *doc.Document) ([]stage.Output, error) {
		return nil, nil // a duplicate
	}))
	r.until(contract.StreamRaw, 0)
	require.Empty(t, r.all(contract.StreamDLQ))
}
