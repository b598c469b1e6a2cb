package scrape

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/jobspy/millrace/shared/doc"
)

// The bounds of what is kept in memory between documents.
const (
	// cacheTTL is how long a response answers for its URL.
	cacheTTL = time.Minute
	// cacheCount and cacheBytes bound the responses that are kept.
	cacheCount = 256
	cacheBytes = 64 << 20
	// maxRedirects is how many redirects within a host are followed.
	maxRedirects = 5
)

// fetcher makes requests as a polite guest: it says who it is, keeps to robots.txt, to a
// rate budget per host and to what the host asked for, and reads no more than a limit. It
// may be used concurrently.
type fetcher struct {
	agent   string
	maxBody int64
	now     func() time.Time
	every   rate.Limit
	burst   int
	cache   *cache
	secure  *http.Client // https, public addresses and the allowed networks
	plain   *http.Client // http, only the allowed networks

	mu    sync.Mutex
	hosts map[string]*host
}

func newFetcher(cfg *Config, now func() time.Time) *fetcher {
	return &fetcher{
		agent: cfg.UserAgent, maxBody: cfg.MaxBodyBytes, now: now,
		every: rate.Limit(cfg.Rate), burst: cfg.Burst,
		cache:  newCache(now, cacheCount, cacheBytes),
		secure: newClient(&dialer{allow: cfg.AllowNets, public: true, lookup: lookupIP}),
		plain:  newClient(&dialer{allow: cfg.AllowNets, lookup: lookupIP}),
		hosts:  map[string]*host{},
	}
}

// get returns what is at an address, from the cache where it is fresh. Every error is a
// *sourceError or the end of ctx; the page holds what was received all the same.
func (f *fetcher) get(ctx context.Context, address string) (page, error) {
	u, err := url.Parse(address)
	if err != nil {
		return page{url: address}, &sourceError{status: doc.SourceFailed, cause: err}
	}
	p, err := f.cache.do(ctx, address, cacheTTL, func() (page, error) { return f.follow(ctx, u, true) })
	p.url = address
	if err != nil {
		return p, classify(ctx, err)
	}
	return p, nil
}

// follow makes a request and goes along with redirects that stay on the host. Where asked
// to it heeds robots.txt at each step.
func (f *fetcher) follow(ctx context.Context, u *url.URL, heed bool) (page, error) {
	h := f.host(u)
	for range maxRedirects + 1 {
		if heed {
			if err := f.permitted(ctx, h, u); err != nil {
				return page{}, err
			}
		}
		p, next, err := f.request(ctx, h, u)
		if next == nil {
			return p, err
		}
		u = next
	}
	return page{}, &sourceError{status: doc.SourceFailed, cause: fmt.Errorf("%s redirects too often", u.Host)}
}

// request makes one request within the budget of its host. next is where it was redirected
// to, if that is on the same host.
func (f *fetcher) request(ctx context.Context, h *host, u *url.URL) (p page, next *url.URL, err error) {
	if err := h.wait(ctx, f.now); err != nil {
		return page{}, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return page{}, nil, &sourceError{status: doc.SourceFailed, cause: err}
	}
	req.Header.Set("User-Agent", f.agent)
	req.Header.Set("Accept", "application/json, text/plain;q=0.5, */*;q=0.1")
	client := f.secure
	if u.Scheme == "http" {
		client = f.plain
	}
	res, err := client.Do(req)
	if err != nil {
		return page{}, nil, fmt.Errorf("ask %s: %w", u.Host, err)
	}
	defer res.Body.Close() //nolint:errcheck // it was read, or is given up
	if to := redirect(u, res); to != nil {
		return page{}, to, nil
	}
	p = page{status: res.StatusCode, read: &reading{}}
	p.body, err = f.body(res)
	if err != nil {
		return page{}, nil, fmt.Errorf("read the answer of %s: %w", u.Host, err)
	}
	status, again := judge(res.StatusCode)
	if status == doc.SourceOK {
		return p, nil, nil
	}
	after := retryAfter(res.Header, f.now())
	if again && after > 0 {
		h.pause(f.now().Add(after))
	}
	return p, nil, &sourceError{
		status: status, again: again, after: after,
		cause: fmt.Errorf("%s answered %d", u.Host, res.StatusCode),
	}
}

// body reads the body of a response up to the limit.
func (f *fetcher) body(res *http.Response) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(res.Body, f.maxBody+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > f.maxBody {
		return nil, &sourceError{status: doc.SourceFailed, cause: fmt.Errorf("it is over %d bytes", f.maxBody)}
	}
	return b, nil
}

// redirect returns where a response leads to, or nil where it is no redirect or leads to
// another host or scheme.
func redirect(from *url.URL, res *http.Response) *url.URL {
	switch res.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil
	}
	to, err := res.Location()
	if err != nil || to.Scheme != from.Scheme || to.Host != from.Host || to.User != nil {
		return nil
	}
	return to
}

// classify says what an error of a request means for the source.
func classify(ctx context.Context, err error) error {
	if e, ok := errors.AsType[*sourceError](err); ok {
		return &sourceError{status: e.status, again: e.again, after: e.after, cause: err}
	}
	out := &sourceError{status: doc.SourceFailed, again: true, cause: err}
	_, cert := errors.AsType[*tls.CertificateVerificationError](err)
	netErr, isNet := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, errAddress):
		out.status, out.again = doc.SourceBlocked, false
	case ctx.Err() != nil:
		out.status, out.again = doc.SourceTimeout, false
	case errors.Is(err, errConnect):
		out.status, out.again = doc.SourceUnreachable, false
	case cert:
		out.again = false
	case isNet && netErr.Timeout():
		out.status = doc.SourceTimeout
	}
	return out
}
