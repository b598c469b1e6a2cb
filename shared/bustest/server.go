// Package bustest holds the conformance suite of package bus and what tests need to run
// against a real broker: an embedded server with every stream of the line. Only tests
// import it.
package bustest

import (
	"io"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/topology"
)

const (
	readyWait = 10 * time.Second
	// testDisk and testMemory size the topology of tests, so that many servers fit on one
	// machine.
	testDisk   = 1 << 30
	testMemory = 16 << 20
	// MaxPayload is the largest message that the server of Server takes.
	MaxPayload = 8 << 20
)

// Server runs an embedded server with JetStream until the test ends. It listens on a free
// port of 127.0.0.1, stores in a folder of the test and syncs as the broker does by
// default, not always.
func Server(t testing.TB) *server.Server {
	t.Helper()
	s := StartServer(t, t.TempDir(), server.RANDOM_PORT)
	t.Cleanup(func() { StopServer(s) })
	return s
}

// StartServer runs a server over the given folder and port, for tests that stop and start
// it themselves.
func StartServer(t testing.TB, dir string, port int) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		ServerName: "bustest",
		Host:       "127.0.0.1",
		Port:       port,
		JetStream:  true,
		StoreDir:   dir,
		MaxPayload: MaxPayload,
		NoSigs:     true,
		NoLog:      true,

		JetStreamMaxStore:      4 * testDisk,
		JetStreamMaxMemory:     4 * testMemory,
		DisableJetStreamBanner: true,
	})
	require.NoError(t, err)
	s.Start()
	if !s.ReadyForConnections(readyWait) {
		StopServer(s)
		t.Fatal("the embedded server did not start")
	}
	return s
}

// StopServer stops a server and waits until it is gone.
func StopServer(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

// Connect connects to s until the test ends.
func Connect(t testing.TB, s *server.Server) *bus.JetStream {
	t.Helper()
	j, err := bus.Connect(t.Context(), bus.Settings{
		URL: s.ClientURL(), Name: "bustest", Log: zerolog.New(io.Discard),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, j.Close()) })
	return j
}

// Options sizes a topology for tests: as o says, but small on disk and in memory.
func Options(o topology.Options) topology.Options {
	o.Disk, o.Memory = testDisk, testMemory
	return o
}

// JetStream returns a connection to a server of its own that has the whole line, until the
// test ends.
func JetStream(t testing.TB, o topology.Options) *bus.JetStream {
	t.Helper()
	j := Connect(t, Server(t))
	Provision(t, j, o)
	return j
}

// Provision makes the whole line in the broker of j.
func Provision(t testing.TB, j *bus.JetStream, o topology.Options) {
	t.Helper()
	_, err := topology.Apply(t.Context(), j.JetStream(), topology.Plan(Options(o)), false)
	require.NoError(t, err)
}
