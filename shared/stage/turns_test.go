package stage_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/slot"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/topology"
)

// bubble runs a validate stage on a broker in memory, in a bubble, until the test ends.
func bubble(t *testing.T, b *bus.Memory, h stage.Handler) {
	t.Helper()
	s := store.NewMemory(time.Now)
	for _, bucket := range contract.Buckets() {
		_, err := s.EnsureBucket(t.Context(), bucket)
		require.NoError(t, err)
	}
	c := config()
	c.HandleTimeout, c.DrainTimeout = time.Minute, 0
	book, err := ledger.OpenLedger(t.Context(), b, c.LedgerTTL, time.Now)
	require.NoError(t, err)
	r := stage.NewRunner(stage.Settings{
		Stage: contract.Validate, Handler: h, Config: c, Metrics: stage.NewMetrics(prometheus.NewRegistry(), contract.Validate),
		Deps: stage.Deps{Ledger: book, Bus: b, Store: s, Clock: time.Now, Log: zerolog.Nop()},
	})
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { stop(); running.Wait() })
}

// sendTo publishes a document to the validate stage.
func sendTo(t *testing.T, b bus.Bus, d *doc.Document) {
	t.Helper()
	body, err := d.Encode()
	require.NoError(t, err)
	_, err = b.Publish(t.Context(), bus.Message{
		Subject: "llm.validate.normal.job_extraction.openai", Header: d.Headers(contract.Ingest), Body: body,
	})
	require.NoError(t, err)
}

// died takes n documents three times, as processes that died each time: they come again when
// the acknowledgement wait is over.
func died(t *testing.T, b bus.Bus, n int) {
	t.Helper()
	s, err := b.Consume(t.Context(), "LLM_VALIDATE", "validate-normal", n, func(d bus.Delivery) {
		if d.Count() <= 2 {
			require.NoError(t, d.Nak())
		}
	})
	require.NoError(t, err)
	synctest.Wait()
	s.Stop()
}

func TestWhoWaitsForItsTurnDidNotRunAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := bustest.Memory(t, topology.Options{})
		for _, id := range []string{"f1", "f2", "f3"} {
			sendTo(t, b, envelope(id))
		}
		died(t, b, 3)

		bubble(t, b, handle(func(ctx context.Context, _ *doc.Document) ([]stage.Output, error) {
			<-ctx.Done() // it would kill the process
			return nil, ctx.Err()
		}))
		<-time.After(topology.DefaultAckWait + time.Second)
		synctest.Wait()
		kv, err := b.KV(t.Context(), contract.KVCache)
		require.NoError(t, err)
		marks := 0
		for _, key := range []string{"alone.LLM_VALIDATE.1", "alone.LLM_VALIDATE.2", "alone.LLM_VALIDATE.3"} {
			if _, err := kv.Get(t.Context(), key); err == nil {
				marks++
			}
		}
		require.Equal(t, 1, marks, "the one that runs")
	})
}

// While one runs alone and waits for the broker, others come in: they must not take its slot
// and then wait for its end.
func TestWhoRunsAloneGetsItsSlotBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := bustest.Memory(t, topology.Options{})
		sendTo(t, b, envelope("suspect"))
		died(t, b, 1)
		var took time.Duration
		bubble(t, b, handle(func(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
			if in.Metadata.FileID == "suspect" {
				began := time.Now()
				resume := slot.Pause(ctx)
				for _, id := range []string{"f1", "f2", "f3", "f4", "f5", "f6"} {
					sendTo(t, b, envelope(id))
				}
				<-time.After(time.Second)
				resume()
				took = time.Since(began)
			}
			return next(in), nil
		}))
		<-time.After(time.Minute)
		synctest.Wait()
		require.Equal(t, time.Second, took)
	})
}

func TestARetryDoesNotReplaceThatOfAReplay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := bustest.Memory(t, topology.Options{})
		var ran []int
		var mu sync.Mutex
		bubble(t, b, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
			mu.Lock()
			defer mu.Unlock()
			if in.Header[contract.HeaderOriginSeq] == "" { // it comes for the first time
				return nil, fault.Wait(errors.New("not there yet"), time.Second)
			}
			ran = append(ran, in.Replay)
			return next(in), nil
		}))
		replay := envelope("f1")
		replay.Replay = 1
		sendTo(t, b, replay)
		sendTo(t, b, envelope("f1")) // a stage before delivered it again after a crash
		<-time.After(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		require.ElementsMatch(t, []int{0, 1}, ran)
	})
}

func TestWhoCameBackFromRunningAloneKilledNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := bustest.Memory(t, topology.Options{})
		kv, err := b.KV(t.Context(), contract.KVCache)
		require.NoError(t, err)
		sendTo(t, b, envelope("f1"))
		died(t, b, 1)
		var mark string
		bubble(t, b, handle(func(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
			e, err := kv.Get(ctx, "alone.LLM_VALIDATE.1")
			if err != nil {
				return nil, err
			}
			mark = string(e.Value)
			return next(in), nil
		}))
		<-time.After(time.Minute)
		synctest.Wait()
		require.Equal(t, "4/0", mark, "the delivery, while it runs")
		_, err = kv.Get(t.Context(), "alone.LLM_VALIDATE.1")
		require.ErrorIs(t, err, bus.ErrNotFound)
	})
}
