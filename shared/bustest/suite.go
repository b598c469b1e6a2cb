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

const (
	// patience is how long a test waits for what must happen, also on a busy machine.
	patience = 20 * time.Second
	// quiet is how long a test listens for what must not happen.
	quiet = 300 * time.Millisecond
	// shortAckWait is the acknowledgement timer of tests that let it run out.
	shortAckWait = 1 * time.Second
)

// Maker returns an empty bus with the whole line, sized as o says, until the test ends.
type Maker func(t *testing.T, o topology.Options) bus.Bus

// Run runs the conformance suite: everything that callers of bus.Bus may rely on.
func Run(t *testing.T, newBus Maker) {
	t.Helper()
	for _, group := range []func(*testing.T, Maker){runPublish, runConsume, runRedeliver, runDied, runSchedule, runRead, runKV} {
		group(t, newBus)
	}
}

// Memory returns an in-process bus with the whole line until the test ends.
func Memory(t testing.TB, o topology.Options) *bus.Memory {
	t.Helper()
	plan := topology.Plan(Options(o))
	m := bus.NewMemory(plan.Streams, plan.Buckets)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	require.NoError(t, topology.StartMemory(t.Context(), m, plan))
	return m
}

// The work that the suite publishes goes to one lane of one stage.
const (
	stage = contract.Validate
	lane  = contract.Normal
)

var (
	stream   = contract.StageStream(stage)
	consumer = contract.Consumer(stage, lane)
	subject  = contract.StageSubject(stage, lane, string(contract.JobExtraction), "openai")
)

// publish publishes n pieces of work and returns the receipts.
func publish(t *testing.T, b bus.Bus, n int) []bus.Receipt {
	t.Helper()
	receipts := make([]bus.Receipt, n)
	for i := range receipts {
		var err error
		receipts[i], err = b.Publish(t.Context(), bus.Message{Subject: subject, Body: fmt.Appendf(nil, "body %d", i)})
		require.NoError(t, err)
	}
	return receipts
}

// consume collects the deliveries of a consumer until the test ends.
func consume(t *testing.T, b bus.Bus, stream, consumer string, credits int) <-chan bus.Delivery {
	t.Helper()
	c := make(chan bus.Delivery, 10_000)
	s, err := b.Consume(t.Context(), stream, consumer, credits, func(d bus.Delivery) { c <- d })
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	return c
}

// next waits for one delivery.
func next(t *testing.T, c <-chan bus.Delivery) bus.Delivery {
	t.Helper()
	select {
	case d := <-c:
		return d
	case <-time.After(patience):
		require.FailNow(t, "no delivery")
		return nil
	}
}

// silent requires that nothing is delivered for a while.
func silent(t *testing.T, c <-chan bus.Delivery, d time.Duration) {
	t.Helper()
	select {
	case got := <-c:
		require.FailNow(t, "unexpected delivery", "message %d, delivery %d: %q",
			got.Message().Seq, got.Count(), got.Message().Body)
	case <-time.After(d):
	}
}

// eventually waits until f says yes.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	require.Eventually(t, f, patience, 5*time.Millisecond, what)
}

func messages(t *testing.T, b bus.Bus, stream string) uint64 {
	t.Helper()
	info, err := b.Info(t.Context(), stream)
	require.NoError(t, err)
	return info.Messages
}
