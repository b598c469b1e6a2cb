package scrape

import (
	"context"
	"sync"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/doc"
)

// source is one place that has jobs. To add one: a file that implements it, its settings in
// Config and a line in New. It may be called concurrently.
type source interface {
	// search asks for what q looks for and returns everything that was received, until ctx
	// ends. What goes wrong is part of the findings: one board does not cost the others.
	search(ctx context.Context, q *query) findings
}

// findings is what a source gave.
type findings struct {
	pages    []page // everything that was received, good or bad, in a fixed order
	answered int    // how many requests gave what was asked for
	jobs     []doc.JobPosting
	failures []error // each names what did not answer, in a fixed order
}

// page is one response.
type page struct {
	url    string
	status int
	body   []byte
	read   *reading // shared by all who get the page from the cache; nil where nothing is kept
}

// reading remembers what was made of a body, so that a burst of documents reads it once.
type reading struct {
	json    sync.Once
	isJSON  bool
	list    sync.Once
	listing any
}

// isJSON reports whether the body is JSON that may stand in an object as it is.
func (p *page) isJSON() bool {
	if p.read == nil {
		return codec.Check(p.body, codec.DefaultDepth) == nil
	}
	p.read.json.Do(func() { p.read.isJSON = codec.Check(p.body, codec.DefaultDepth) == nil })
	return p.read.isJSON
}

// listing returns what parse makes of the body. A page is only ever read by one source, so
// that all callers bring the same parse; what it gives is not changed afterwards.
func listing[T any](p *page, parse func(body []byte) *T) *T {
	if p.read == nil {
		return parse(p.body)
	}
	p.read.list.Do(func() { p.read.listing = parse(p.body) })
	made, ok := p.read.listing.(*T)
	if !ok {
		return parse(p.body)
	}
	return made
}
