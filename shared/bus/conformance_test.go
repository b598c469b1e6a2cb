package bus_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/topology"
)

// waiting is how many of these tests run at a time: they mostly wait for timers.
const waiting = "6"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", waiting); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

func TestMemoryConforms(t *testing.T) {
	t.Parallel()
	bustest.Run(t, func(t *testing.T, o topology.Options) bus.Bus { return bustest.Memory(t, o) })
}

func TestJetStreamConforms(t *testing.T) {
	t.Parallel()
	bustest.Run(t, func(t *testing.T, o topology.Options) bus.Bus { return bustest.JetStream(t, o) })
}
