package stage_test

import (
	"context"
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
	marks, err := b.KV(t.Context(), contract.KVCache)
	require.NoError(t, err)

	one := func(c *stage.Config) { c.MaxConcurrentTasks, c.HandleTimeout = 1, 2*time.Second }
	r := setup(t, options{bus: b, config: one}, handle(func(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
		if in.Metadata.FileID == "other" {
			resume := slot.Pause(ctx) // as whoever writes to the store does
			if err := suspect.Nak(); err != nil {
				t.Error(err)
			}
			marked := func() bool {
				_, err := marks.Get(ctx, "alone.LLM_VALIDATE.1")
				return err == nil
			}
			for !marked() && ctx.Err() == nil {
				time.Sleep(time.Millisecond) //nolint:forbidigo // the suspect comes in its own time
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
