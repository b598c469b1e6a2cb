package chaos

import (
	"context"
	"fmt"
	"strings"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// link is the connections between the stages and one of the things they depend on.
type link struct{ proxy *toxiproxy.Proxy }

// The toxics that a link can have.
const (
	latency = `{"name":"latency-%[1]s","type":"latency","stream":"%[1]s","attributes":{"latency":250,"jitter":150}}`
	late    = `{"name":"late-%[1]s","type":"latency","stream":"%[1]s","attributes":{"latency":400,"jitter":0}}`
	reset   = `{"name":"reset-%[1]s","type":"reset_peer","stream":"%[1]s","attributes":{"timeout":0}}`
	silence = `{"name":"silence-%[1]s","type":"timeout","stream":"%[1]s","attributes":{"timeout":0}}`
)

func newLink(name, upstream string) (*link, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	p := toxiproxy.NewProxy(server, name, "127.0.0.1:0", upstream)
	if err := p.Start(); err != nil {
		return nil, fmt.Errorf("listen before the %s: %w", name, err)
	}
	return &link{proxy: p}, nil
}

func (l *link) addr() string { return l.proxy.Listen }

// hurt does something to all connections, in the directions that are named.
func (l *link) hurt(toxic string, directions ...string) error {
	for _, stream := range directions {
		if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(toxic, stream))); err != nil {
			return fmt.Errorf("hurt the connections to the %s: %w", l.proxy.Name, err)
		}
	}
	return nil
}

// heal takes back everything that was done.
func (l *link) heal(ctx context.Context) { l.proxy.Toxics.ResetToxics(ctx) }

func (l *link) close() { l.proxy.Stop() }
