package scrape

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// dialTimeout is how long one address may take to accept a connection.
const dialTimeout = 3 * time.Second

// errAddress is wrapped where a host resolves only to addresses that must not be reached.
var errAddress = errors.New("address is not allowed")

// errConnect is wrapped where no connection came about.
var errConnect = errors.New("no connection")

// special are networks beyond those that package netip knows which lead to no public host,
// or hide another address inside.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // carrier-grade NAT, cloud metadata
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"),   // NAT64
	netip.MustParsePrefix("64:ff9b:1::/48"), // NAT64, local
	netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"), // Teredo and other protocol assignments
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"), // 6to4
	netip.MustParsePrefix("fec0::/10"),
}

// dialer resolves a host, checks every address and connects to one that passed: there is
// no second look-up that could give something else.
type dialer struct {
	allow  []netip.Prefix
	public bool // whether public addresses may be reached
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
}

// allowed reports whether a may be reached.
func (d *dialer) allowed(a netip.Addr) bool {
	if a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	for _, n := range d.allow {
		if n.Contains(a) {
			return true
		}
	}
	return d.public && isPublic(a)
}

// isPublic reports whether a is the address of a host on the open internet.
func isPublic(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, n := range special {
		if n.Contains(a) {
			return false
		}
	}
	return true
}

// dial is the DialContext of a transport.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("read address %q: %w", address, err)
	}
	addrs, err := d.lookup(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w: %w", host, errConnect, err)
	}
	refused := fmt.Errorf("%s resolves to nothing that may be reached: %w", host, errAddress)
	var failed error
	for _, a := range addrs {
		if !d.allowed(a) {
			continue
		}
		c, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, net.JoinHostPort(a.Unmap().String(), port))
		if err == nil {
			return c, nil
		}
		failed = errors.Join(failed, fmt.Errorf("connect to %s: %w: %w", host, errConnect, err))
	}
	if failed != nil {
		return nil, failed
	}
	return nil, refused
}

// newClient returns a client that connects only through d, takes no proxy and follows no
// redirect by itself.
func newClient(d *dialer) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            d.dial,
			ForceAttemptHTTP2:      true,
			MaxIdleConnsPerHost:    4,
			MaxConnsPerHost:        16,
			IdleConnTimeout:        30 * time.Second,
			TLSHandshakeTimeout:    5 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// lookupIP resolves a host name, or reads an address.
func lookupIP(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}
