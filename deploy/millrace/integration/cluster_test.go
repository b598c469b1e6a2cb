//go:build integration

package integration

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/storetest"
)

const (
	// calm is how many publishes go by between two faults.
	calm = 10
	// longestPause and medianPause are how long publishing may stand still while the brokers
	// choose a leader.
	longestPause = 25 * time.Second
	medianPause  = 10 * time.Second
)

// TestAClusterLosesNothing has three brokers with three copies of everything and buckets that keep
// versions, and takes a broker from the line in different ways. Nothing is lost, nothing comes
// twice, and publishing goes on.
func TestAClusterLosesNothing(t *testing.T) { //nolint:paralleltest // each has the whole machine under load
	bin := binaries(t)
	c := startCluster(t)
	s3Addr := freeAddr(t)
	env := []string{
		"MINIO_ROOT_USER=integration", "MINIO_ROOT_PASSWORD=integration-secret",
		"S3_ACCESS_KEY=integration", "S3_SECRET_KEY=integration-secret",
		"S3_ENDPOINT=" + s3Addr, "NATS_URL=" + c.url(), "STREAM_REPLICAS=3", unreachable,
	}
	run(t, env, tool(t, "MINIO_BIN"), "server", filepath.Join(t.TempDir(), "minio"), "--address", s3Addr, "--console-address", freeAddr(t), "--quiet")
	s := versioned(t, store.S3Settings{Endpoint: s3Addr, AccessKey: "integration", SecretKey: "integration-secret"})
	provision := run(t, env, filepath.Join(bin, "millrace"), "provision", "--wait", "60s")
	<-provision.done
	require.True(t, provision.cmd.ProcessState.Success())
	var addrs []string
	for _, s := range contract.Stages() {
		addrs = append(addrs, freeAddr(t))
		run(t, append(env, "HTTP_ADDR="+addrs[len(addrs)-1]), filepath.Join(bin, string(s)))
	}
	for _, addr := range addrs {
		ready(t, addr)
	}
	b, err := bus.Connect(t.Context(), bus.Settings{URL: c.url(), Name: "load"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })

	l := load(t, b, 0)
	l.more(calm)
	var pauses []time.Duration // of a leader that is gone without a word
	for _, tt := range c.faults(l, b) {
		t.Run(tt.name, func(t *testing.T) { //nolint:paralleltest // one fault at a time
			for range tt.rounds {
				at := time.Now()
				tt.do(t)
				l.more(calm)
				c.healthy()
				pause := l.pause(at)
				t.Logf("the longest pause was %s", pause.Round(time.Millisecond))
				require.LessOrEqual(t, pause, longestPause)
				if !tt.told {
					pauses = append(pauses, pause)
				}
			}
		})
	}
	slices.Sort(pauses)
	t.Logf("pauses of a leader that was gone: %d, median %s, longest %s", len(pauses), pauses[len(pauses)/2], pauses[len(pauses)-1])
	require.Less(t, pauses[len(pauses)/2], medianPause)
	accepted := l.stop()
	t.Logf("%d documents were accepted", len(accepted))
	reach(t, b, len(accepted))
	emptied(t, b)
	check(t, b, s, accepted)
}

// fault is a way to take a broker from the line.
type fault struct {
	name   string
	rounds int
	told   bool // the broker knows that it goes, and hands over what it leads
	do     func(t *testing.T)
}

func (c *cluster) faults(l *steady, b *bus.JetStream) []fault {
	return []fault{
		{"the leader is killed and started again", 3, false, func(t *testing.T) {
			n := c.leader(t, b)
			n.kill()
			l.more(calm)
			n.start()
		}},
		{"the leader is cut off", 3, false, func(t *testing.T) {
			n := c.leader(t, b)
			n.apart(t)
			n.cut(t, true)
			l.more(calm)
			n.cut(t, false)
		}},
		{"the leader is cut off from the others only", 3, false, func(t *testing.T) {
			n := c.leader(t, b)
			n.apart(t)
			c.isolate(n, true)
			l.more(calm)
			c.isolate(n, false)
		}},
		{"all are replaced one after the other", 1, true, func(*testing.T) {
			for _, n := range c.nodes {
				n.leave()
				n.start()
				c.healthy()
			}
		}},
		{"one loses its disk", 1, false, func(t *testing.T) {
			n := c.leader(t, b)
			n.kill()
			n.wipe(t)
			n.start()
		}},
	}
}

// versioned opens a store and makes the line's buckets so that they keep versions.
func versioned(t *testing.T, set store.S3Settings) *store.S3 {
	t.Helper()
	s, err := store.OpenS3(t.Context(), set)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	keep := storetest.KeepVersions(t, s, set)
	for _, bucket := range contract.Buckets() {
		require.Eventually(t, func() bool { _, err := keep.EnsureBucket(t.Context(), bucket); return err == nil }, startWait, poll)
		have, err := s.Versions(t.Context(), bucket)
		require.NoError(t, err)
		require.True(t, have.Kept)
	}
	return s
}

// apart skips a test whose brokers cannot be cut off.
func (n *node) apart(t *testing.T) {
	t.Helper()
	if n.space == "" {
		t.Skip("SKIPPED: the brokers share a network, so none can be cut off (needs root and ip)")
	}
}

// leader returns the broker that decides what is accepted.
func (c *cluster) leader(t *testing.T, b *bus.JetStream) *node {
	t.Helper()
	s, err := b.JetStream().Stream(t.Context(), contract.StreamRaw)
	require.NoError(t, err)
	for _, n := range c.nodes {
		if n.name == s.CachedInfo().Cluster.Leader {
			return n
		}
	}
	require.FailNow(t, "the queue has no leader")
	return nil
}
