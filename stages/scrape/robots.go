package scrape

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/temoto/robotstxt"

	"github.com/jobspy/millrace/shared/doc"
)

// robotsTTL is how long a robots.txt counts. One that could not be had is asked for again
// by the next request.
const robotsTTL = time.Hour

// maxRobots is how much of a robots.txt is read, in bytes, as RFC 9309 demands at least.
const maxRobots = 500 << 10

// permitted returns nil where the robots.txt of the host lets us ask for u. One that does
// not exist allows everything; one that cannot be had allows nothing, and the host counts
// as unreachable.
func (f *fetcher) permitted(ctx context.Context, h *host, u *url.URL) error {
	at := &url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/robots.txt"}
	p, err := f.cache.do(ctx, at.String(), robotsTTL, func() (page, error) { return f.robots(ctx, at) })
	if err != nil {
		return fmt.Errorf("read robots.txt: %w", err)
	}
	if p.status != 200 {
		return nil
	}
	rules, err := robotstxt.FromBytes(p.body)
	if err != nil {
		return &sourceError{status: doc.SourceBlocked, cause: fmt.Errorf("read robots.txt of %s: %w", u.Host, err)}
	}
	group := rules.FindGroup(f.agent)
	h.slow(group.CrawlDelay)
	if !group.Test(u.RequestURI()) {
		return &sourceError{status: doc.SourceBlocked, cause: fmt.Errorf("robots.txt of %s disallows %s", u.Host, u.Path)}
	}
	return nil
}

// robots fetches a robots.txt. A page without error and without status 200 means that there
// is none.
func (f *fetcher) robots(ctx context.Context, at *url.URL) (page, error) {
	p, err := f.follow(ctx, at, false)
	switch {
	case err == nil:
		p.body = p.body[:min(len(p.body), maxRobots)]
		return p, nil
	case p.status >= 300 && p.status < 500 && p.status != 429:
		return page{status: p.status}, nil
	}
	if p.status >= 500 {
		return page{}, &sourceError{status: doc.SourceUnreachable, cause: err}
	}
	return page{}, err
}
