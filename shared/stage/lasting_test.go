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
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/topology"
)

// lasting is a handler whose timer may take an hour.
type lasting struct{ handle }

func (lasting) Lasts(in *doc.Document) time.Duration {
	if in.Timer == "long" {
		return time.Hour
	}
	return 0
}

func TestATimerThatMayTakeLongHoldsUpNoDocumentThatRunsAlone(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{})
	sender := &rig{t: t, bus: b}
	sender.send(envelope("suspect"))
	deliver(t, b, 2)
	for _, name := range []string{"long", "short"} {
		m := bus.Message{
			Subject: contract.RetrySubject(contract.Validate, "timer~"+name, 0), Body: []byte("{}"),
			Header: bus.Header{contract.HeaderTimer: name, contract.HeaderLane: "low"},
		}
		require.NoError(t, b.Schedule(t.Context(), m, time.Now(), contract.DueSubject(contract.Validate, contract.Low)))
	}
	began, through := make(chan time.Duration, 1), make(chan struct{})
	r := setup(t, options{bus: b}, lasting{func(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
		end, _ := ctx.Deadline()
		switch in.Timer {
		case "long":
			began <- time.Until(end)
			<-through // until the suspect document is through
			return nil, nil
		case "short":
			require.Less(t, time.Until(end), 2*time.Second)
			return nil, nil
		}
		require.Less(t, time.Until(end), 2*time.Second)
		return next(in), nil
	}})
	require.Greater(t, <-began, 50*time.Minute)
	r.until("LLM_ENRICH", 1)
	close(through)
	r.until("LLM_VALIDATE", 0)
}
