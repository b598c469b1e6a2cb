package bustest

import (
	"fmt"
	"net"
	"net/url"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

// clusterSize is how many servers Cluster runs.
const clusterSize = 3

// Cluster runs three embedded servers that keep copies for each other, until the test ends.
// A leader may not be chosen yet when it returns: provisioning waits for one.
func Cluster(t testing.TB) []*server.Server {
	t.Helper()
	routes := make([]*url.URL, clusterSize)
	for i := range routes { // they have to know each other from the start
		routes[i] = &url.URL{Scheme: "nats-route", Host: freeAddr(t).String()}
	}
	servers := make([]*server.Server, clusterSize)
	for i := range servers {
		var err error
		servers[i], err = server.NewServer(&server.Options{
			ServerName: fmt.Sprintf("bustest-%d", i+1), Host: "127.0.0.1", Port: server.RANDOM_PORT,
			JetStream: true, StoreDir: t.TempDir(), MaxPayload: MaxPayload, NoSigs: true, NoLog: true,
			JetStreamMaxStore: 4 * testDisk, JetStreamMaxMemory: 4 * testMemory, DisableJetStreamBanner: true,
			Cluster: server.ClusterOpts{Name: "bustest", Host: "127.0.0.1", Port: port(t, routes[i])}, Routes: routes,
		})
		require.NoError(t, err)
		t.Cleanup(func() { StopServer(servers[i]) })
		servers[i].Start()
	}
	for _, s := range servers {
		require.True(t, s.ReadyForConnections(readyWait), "the embedded server starts")
	}
	return servers
}

// freeAddr returns an address of loopback that was free a moment ago.
func freeAddr(t testing.TB) net.Addr {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // it held the port for a moment
	return l.Addr()
}

func port(t testing.TB, u *url.URL) (n int) {
	t.Helper()
	_, err := fmt.Sscan(u.Port(), &n)
	require.NoError(t, err)
	return n
}
