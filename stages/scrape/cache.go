package scrape

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// cache keeps responses for a short while, so that many documents at once cost a board one
// request. It is bounded by count and bytes; who was used longest ago leaves first. It may
// be used concurrently.
type cache struct {
	now      func() time.Time
	maxCount int
	maxBytes int64

	mu      sync.Mutex
	entries map[string]*list.Element // of *cached
	order   *list.List               // the last used first
	bytes   int64
	running map[string]*load
}

// load is a request under way. Its results may be read when done is closed.
type load struct {
	done  chan struct{}
	page  page
	err   error
	ended bool // the load was broken off with its caller: it says nothing
}

type cached struct {
	key   string
	page  page
	until time.Time
}

// size is what an entry takes in memory: the body, and about as much again once it was read.
func (e *cached) size() int64 { return 2 * int64(len(e.page.body)) }

func newCache(now func() time.Time, maxCount int, maxBytes int64) *cache {
	return &cache{
		now: now, maxCount: maxCount, maxBytes: maxBytes,
		entries: map[string]*list.Element{}, order: list.New(), running: map[string]*load{},
	}
}

// do returns the page kept under key, else what fetch gives, page and error. Only one fetch
// per key runs at a time and answers for all who wait; where its caller's ctx ended one of
// them tries again. What fetch gives without an error is kept for ttl.
func (c *cache) do(ctx context.Context, key string, ttl time.Duration, fetch func() (page, error)) (page, error) {
	for {
		p, l, lead := c.begin(key)
		switch {
		case l == nil:
			return p, nil
		case lead:
			c.lead(ctx, l, key, ttl, fetch)
			return l.page, l.err
		}
		select {
		case <-l.done:
		case <-ctx.Done():
			return page{}, context.Cause(ctx)
		}
		if !l.ended {
			return l.page, l.err
		}
	}
}

// begin looks key up. It returns the page that is kept, or the load under way; lead says
// that there was none and the caller has to do it.
func (c *cache) begin(key string) (p page, l *load, lead bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok {
		kept := e.Value.(*cached) //nolint:forcetypeassert // nothing else is in the list
		if c.now().Before(kept.until) {
			c.order.MoveToFront(e)
			return kept.page, nil, false
		}
		c.drop(e)
	}
	if l := c.running[key]; l != nil {
		return page{}, l, false
	}
	l = &load{done: make(chan struct{}), ended: true}
	c.running[key] = l
	return page{}, l, true
}

func (c *cache) lead(ctx context.Context, l *load, key string, ttl time.Duration, fetch func() (page, error)) {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.running, key)
		if !l.ended && l.err == nil {
			c.keep(&cached{key: key, page: l.page, until: c.now().Add(ttl)})
		}
		close(l.done)
	}()
	l.page, l.err = fetch()
	l.ended = l.err != nil && ctx.Err() != nil
}

// keep adds an entry and makes room for it. The caller holds the lock.
func (c *cache) keep(e *cached) {
	if e.size() > c.maxBytes {
		return
	}
	c.entries[e.key] = c.order.PushFront(e)
	c.bytes += e.size()
	for c.bytes > c.maxBytes || c.order.Len() > c.maxCount {
		c.drop(c.order.Back())
	}
}

// drop removes an entry. The caller holds the lock.
func (c *cache) drop(e *list.Element) {
	old := c.order.Remove(e).(*cached) //nolint:forcetypeassert // nothing else is in the list
	delete(c.entries, old.key)
	c.bytes -= old.size()
}
