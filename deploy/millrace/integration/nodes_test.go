//go:build integration

package integration

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	clusterSize = 3
	// The ports of each broker, where each has a network of its own.
	clientPort, monitorPort, clusterPort = "4222", "8222", "6222"
	// wholeWait is for every copy to have everything again.
	wholeWait = 2 * time.Minute
	// wholePoll is slow, for a broker logs each time what it lacks.
	wholePoll = 500 * time.Millisecond
)

// node is one broker of a cluster.
type node struct {
	*process

	name, client, monitor, routes, dir string

	// Where it has a network of its own: that, its address there, and the end of its cable that
	// is on our side.
	space, ip, link string
}

// cluster is three brokers that run with deploy/nats/cluster/node.conf.
type cluster struct {
	t     *testing.T
	nodes []*node
}

// startCluster starts three brokers, each in a network of its own where that can be had.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	server := tool(t, "NATS_SERVER_BIN")
	conf, err := filepath.Abs("../../nats/cluster/node.conf")
	require.NoError(t, err)
	c := &cluster{t: t}
	apart := networks(t)
	var routes []string
	for i := range clusterSize {
		n := &node{name: fmt.Sprintf("n%d", i+1), dir: t.TempDir()}
		n.client, n.monitor, n.routes = freeAddr(t), freeAddr(t), freeAddr(t)
		if apart != nil {
			n.space, n.link, n.ip = apart.space(i), apart.link(i), apart.join(t, i)
			n.client, n.monitor, n.routes = net.JoinHostPort(n.ip, clientPort), net.JoinHostPort(n.ip, monitorPort), net.JoinHostPort(n.ip, clusterPort)
		}
		routes = append(routes, fmt.Sprintf("%q", "nats-route://"+n.routes))
		c.nodes = append(c.nodes, n)
	}
	for _, n := range c.nodes {
		command := []string{server, "-c", conf}
		if apart != nil {
			command = append([]string{"ip", "netns", "exec", n.space}, command...)
		}
		n.process = run(t, []string{
			"NATS_NODE=" + n.name, "NATS_LISTEN=" + n.client, "NATS_MONITOR=" + n.monitor, "NATS_CLUSTER=" + n.routes,
			"NATS_ROUTES=[" + strings.Join(routes, ",") + "]", "NATS_STORE=" + n.dir,
		}, command[0], command[1:]...)
	}
	c.healthy()
	return c
}

// url lists the addresses of all, as NATS_URL does.
func (c *cluster) url() string {
	urls := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		urls[i] = "nats://" + n.client
	}
	return strings.Join(urls, ",")
}

// healthy waits until each broker has all that it keeps copies of.
func (c *cluster) healthy() {
	c.t.Helper()
	for _, n := range c.nodes {
		require.Eventually(c.t, func() bool { return n.healthy(c.t.Context()) }, wholeWait, wholePoll, "%s has all copies", n.name)
	}
}

func (n *node) healthy(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.monitor+"/healthz", nil)
	if err != nil {
		return false
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = r.Body.Close() }() // only the status counts
	return r.StatusCode == http.StatusOK
}

// leave makes the broker hand over what it leads and end, as before it is replaced.
func (n *node) leave() {
	_ = n.cmd.Process.Signal(syscall.SIGUSR2) // it may be gone already
	<-n.done
}

// wipe empties the disk of a broker that does not run.
func (n *node) wipe(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(n.dir)
	require.NoError(t, err)
	for _, e := range entries {
		require.NoError(t, os.RemoveAll(filepath.Join(n.dir, e.Name())))
	}
}

// cut pulls the cable of the broker, or puts it back.
func (n *node) cut(t *testing.T, off bool) {
	t.Helper()
	state := "up"
	if off {
		state = "down"
	}
	ip(t, "link", "set", n.link, state)
}

// isolate cuts the broker off from the others, and not from us, or mends that.
func (c *cluster) isolate(n *node, off bool) {
	c.t.Helper()
	verb := "del"
	if off {
		verb = "add"
	}
	for _, other := range c.nodes {
		if other != n {
			ip(c.t, "-n", n.space, "route", verb, "blackhole", other.ip+"/32")
		}
	}
}

// lan is a bridge on this machine, and a network for each broker with a cable to it.
type lan struct{ id, subnet string }

// networks makes a bridge, or returns nil where that is not allowed or possible here.
func networks(t *testing.T) *lan {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Log("SKIPPED: cutting a broker off needs root, so the brokers share this machine's network")
		return nil
	}
	pid := os.Getpid()
	l := &lan{id: fmt.Sprintf("mr%d", pid), subnet: fmt.Sprintf("10.%d.%d", 180+pid/256%60, pid%256)}
	if out, err := exec.Command("ip", "link", "add", l.id, "type", "bridge").CombinedOutput(); err != nil {
		t.Logf("SKIPPED: no bridge can be made (%v: %s), so the brokers share this machine's network", err, out)
		return nil
	}
	t.Cleanup(func() { ip(t, "link", "del", l.id) })
	ip(t, "addr", "add", l.subnet+".1/24", "dev", l.id)
	ip(t, "link", "set", l.id, "up")
	return l
}

func (l *lan) space(i int) string { return fmt.Sprintf("%sn%d", l.id, i) }
func (l *lan) link(i int) string  { return fmt.Sprintf("%sl%d", l.id, i) }

// join makes the network of broker i, plugs it in and returns its address.
func (l *lan) join(t *testing.T, i int) string {
	t.Helper()
	space, link, inside := l.space(i), l.link(i), l.link(i)+"i"
	addr := fmt.Sprintf("%s.%d", l.subnet, 11+i)
	ip(t, "netns", "add", space)
	t.Cleanup(func() { ip(t, "netns", "del", space) })
	ip(t, "link", "add", link, "type", "veth", "peer", "name", inside, "netns", space)
	ip(t, "link", "set", link, "master", l.id, "up")
	ip(t, "-n", space, "addr", "add", addr+"/24", "dev", inside)
	ip(t, "-n", space, "link", "set", inside, "up")
	ip(t, "-n", space, "link", "set", "lo", "up")
	return addr
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	require.NoError(t, err, "ip %s: %s", strings.Join(args, " "), out)
}
