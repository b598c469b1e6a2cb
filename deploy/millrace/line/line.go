// Package line lists the stages of the line, for whatever runs or describes all of them.
package line

import (
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/stages/aggregate"
	"github.com/jobspy/millrace/stages/archive"
	"github.com/jobspy/millrace/stages/enrich"
	"github.com/jobspy/millrace/stages/ingest"
	"github.com/jobspy/millrace/stages/route"
	"github.com/jobspy/millrace/stages/scrape"
	"github.com/jobspy/millrace/stages/standardize"
	"github.com/jobspy/millrace/stages/validate"
)

// Stages returns the stages in the order of the line.
func Stages() []stage.Definition {
	return []stage.Definition{
		stage.Define("ingest", ingest.New),
		stage.Define("validate", validate.New),
		stage.Define("enrich", enrich.New),
		stage.Define("standardize", standardize.New),
		stage.Define("route", route.New),
		stage.Define("scrape", scrape.New),
		stage.Define("aggregate", aggregate.New),
		stage.Define("archive", archive.New),
	}
}
