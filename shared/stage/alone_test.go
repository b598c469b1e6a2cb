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
	"github.com/jobspy/millrace/shared/slot"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/topology"
)

// held takes the first message of the validate stage twice and returns it as it was taken
// the second time; nothing else is taken.
func held(t *testing.T, b *bus.JetStream) bus.Delivery {
	t.Helper()
	times := make(chan bus.Delivery, 1)
	sub, err := b.Consume(t.Context(), "LLM_VALIDATE", "validate-normal", 1, func(d bus.Delivery) { times <- d })
	require.NoError(t, err)
	require.NoError(t, (<-times).Nak())
	d := <-times
	sub.Stop()
	return d
}

func TestWhoWaitsToRunAloneKeepsNoSlotFromThoseItWaitsFor(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{})
	sender := &rig{t: t, bus: b}
	sender.send(envelope("suspect"))
	suspect := held(t, b)

	one := func(c *stage.Config) { c.MaxConcurrentTasks, c.HandleTimeout = 1, 2*time.Second }
	r := setup(t, options{bus: b, config: one}, handle(func(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
		if in.Metadata.FileID == "other" {
			resume := slot.Pause(ctx) // as whoever writes to the store does
			if err := suspect.Nak(); err != nil {
				t.Error(err)
			}
			for !othersInHand(t, b) && ctx.Err() == nil { // the suspect comes, and waits for its turn
				runtime.Gosched()
			}
			resume()
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
		return next(in), nil
	}))
	other := envelope("other")
	other.Lane = contract.High
	r.send(other)
	for _, m := range r.until("LLM_ENRICH", 2) {
		require.Equal(t, "1", m.Header[contract.HeaderAttempt], "%s", m.Header[contract.HeaderFileID])
	}
}

func TestOneSlotIsEnoughForADocumentThatWaits(t *testing.T) {
	t.Parallel()
	one := func(c *stage.Config) { c.MaxConcurrentTasks = 1 }
	r := setup(t, options{config: one}, handle(func(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
		slot.Pause(ctx)() // as whoever writes to the store does
		return next(in), ctx.Err()
	}))
	r.send(envelope("f1"))
	require.Equal(t, "1", r.until("LLM_ENRICH", 1)[0].Header[contract.HeaderAttempt])
}

// suspects takes all n messages of the validate stage until each was delivered twice, and
// hands them back.
func suspects(t *testing.T, b *bus.JetStream, n int) {
	t.Helper()
	times := make(chan bus.Delivery, n)
	sub, err := b.Consume(t.Context(), "LLM_VALIDATE", "validate-normal", n, func(d bus.Delivery) { times <- d })
	require.NoError(t, err)
	second := make([]bus.Delivery, 0, n)
	for len(second) < n {
		if d := <-times; d.Count() == 2 {
			second = append(second, d)
		} else {
			require.NoError(t, d.Nak())
		}
	}
	sub.Stop()
	for _, d := range second {
		require.NoError(t, d.Nak())
	}
}

func TestOnlyWhoRunsAloneIsMarkedAndNobodyWhoSurvives(t *testing.T) {
	t.Parallel()
	const n = 5
	b := bustest.JetStream(t, topology.Options{})
	sender := &rig{t: t, bus: b}
	for i := range n {
		sender.send(envelope(fmt.Sprintf("f%d", i)))
	}
	suspects(t, b, n)
	marks, err := b.KV(t.Context(), contract.KVCache)
	require.NoError(t, err)
	marked := func() (all int) {
		for seq := 1; seq <= n; seq++ {
			if _, err := marks.Get(context.Background(), fmt.Sprintf("alone.LLM_VALIDATE.%d", seq)); err == nil {
				all++
			}
		}
		return all
	}
	var most atomic.Int64
	var r *rig
	many := func(c *stage.Config) { c.MaxConcurrentTasks, c.HandleTimeout = n, 10*time.Second }
	r = setup(t, options{bus: b, config: many}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
		for !othersInHand(t, b) { // they wait for their turn
			runtime.Gosched()
		}
		most.Store(max(most.Load(), int64(marked())))
		return next(in), nil
	}))
	r.until("LLM_ENRICH", n)
	r.until("LLM_VALIDATE", 0)
	require.EqualValues(t, 1, most.Load(), "marked while one ran alone")
	require.Zero(t, marked())
}
