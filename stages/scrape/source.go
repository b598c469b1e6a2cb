package scrape

import (
	"context"

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
}
