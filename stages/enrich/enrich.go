// Package enrich is the stage that derives facts from the content of a document: today the
// country and the region of each place that the content names. It guesses nothing: a name
// that is not known, or may mean several countries, stays unknown. The content is left as
// it is. The core is pure: the same document gives the same bytes.
package enrich

import (
	"context"
	"fmt"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
)

// enricher is the core. It holds only what New made and may be used concurrently.
type enricher struct {
	cfg    Config
	places *gazetteer
}

// New returns the stage's handler, with the table of places read.
func New(_ context.Context, cfg Config, _ stage.Deps) (stage.Handler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("check configuration: %w", err)
	}
	g, err := newGazetteer()
	if err != nil {
		return nil, err
	}
	return &enricher{cfg: cfg, places: g}, nil
}

// Handle adds what can be derived from one document and passes it to standardize. Content
// that is not of its task's form is a permanent error, a cancelled ctx a transient one.
func (e *enricher) Handle(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
	texts, err := textsOf(&in.Envelope)
	if err != nil {
		return nil, fault.Permanently(contract.ReasonSchema, err)
	}
	facts := &doc.Enrichment{}
	for _, t := range texts {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("look for places: %w", err)
		}
		p, ok := e.place(t)
		if !ok {
			continue
		}
		facts.Places = append(facts.Places, p)
		if facts.Region == "" {
			facts.Region = p.Region
		}
	}

	out := in.Next()
	out.Metadata.ProcessingStatus = contract.StatusEnriched
	out.Enrichment = facts
	body, err := out.Encode()
	if err != nil {
		return nil, fault.Permanently(contract.ReasonMalformed, err)
	}
	objects := out.Views(contract.ClassEnriched, body)
	return []stage.Output{{To: contract.Standardize, Doc: out, Objects: objects}}, nil
}

// place returns what a text says; ok is false for a free text that names no place.
func (e *enricher) place(t placeText) (p doc.Place, ok bool) {
	text := cut(t.text, e.cfg.MaxPlaceBytes)
	f := e.places.locate(text, t.free)
	if t.free && !f.known() {
		return doc.Place{}, false
	}
	if r, ok := parseRegion(t.country); ok {
		f.name, f.country, f.rule = t.country, r.String(), ruleCountry
		f.region = regionOf(f.country)
	}
	return doc.Place{
		Pointer: t.pointer, Text: text, Name: f.name, Country: f.country, Region: f.region, Remote: f.remote, Rule: f.rule,
	}, true
}
