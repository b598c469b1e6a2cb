package scrape

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/jobspy/millrace/shared/doc"
)

// host is what is known of one host: its budget and what it asked for. It may be used
// concurrently.
type host struct {
	name    string
	limiter *rate.Limiter

	mu    sync.Mutex
	quiet time.Time // no request before that
}

// host returns the state of u's host. There are as many as the settings name.
func (f *fetcher) host(u *url.URL) *host {
	key := u.Scheme + "://" + u.Host
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.hosts[key]
	if h == nil {
		h = &host{name: u.Host, limiter: rate.NewLimiter(f.every, f.burst)}
		f.hosts[key] = h
	}
	return h
}

// pause keeps requests away until t.
func (h *host) pause(t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.After(h.quiet) {
		h.quiet = t
	}
}

// slow makes requests at least d apart, as robots.txt may ask.
func (h *host) slow(d time.Duration) {
	if d > 0 && rate.Every(d) < h.limiter.Limit() {
		h.limiter.SetLimit(rate.Every(d))
		h.limiter.SetBurst(1)
	}
}

// wait returns when a request may be made. Where that is not before ctx ends it returns at
// once with the delay that would be needed.
func (h *host) wait(ctx context.Context, now func() time.Time) error {
	h.mu.Lock()
	quiet := h.quiet
	h.mu.Unlock()
	at := now()
	if left := quiet.Sub(at); left > 0 {
		return &sourceError{
			status: doc.SourceLimited, again: true, after: left,
			cause: fmt.Errorf("%s asked for no request for %s", h.name, left.Round(time.Second)),
		}
	}
	r := h.limiter.ReserveN(at, 1)
	delay := r.DelayFrom(at)
	if end, ok := ctx.Deadline(); ok && delay > time.Until(end) {
		r.CancelAt(at)
		return &sourceError{
			status: doc.SourceLimited, again: true, after: delay,
			cause: fmt.Errorf("the request budget of %s is spent for %s", h.name, delay.Round(time.Millisecond)),
		}
	}
	if delay <= 0 {
		return nil
	}
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
