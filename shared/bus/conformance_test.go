package bus_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemoryConforms(t *testing.T) {
	t.Parallel()
	bustest.Run(t, func(t *testing.T, o topology.Options) bus.Bus { return bustest.Memory(t, o) })
}

func TestJetStreamConforms(t *testing.T) {
	t.Parallel()
	bustest.Run(t, func(t *testing.T, o topology.Options) bus.Bus { return bustest.JetStream(t, o) })
}
