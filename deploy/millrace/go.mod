module github.com/jobspy/millrace/deploy/millrace

go 1.26.0

require (
	github.com/jobspy/millrace/schemas v0.0.0
	github.com/jobspy/millrace/shared v0.0.0
	github.com/jobspy/millrace/stages/ingest v0.0.0
	github.com/jobspy/millrace/stages/validate v0.0.0
	github.com/jobspy/millrace/stages/enrich v0.0.0
	github.com/jobspy/millrace/stages/standardize v0.0.0
	github.com/jobspy/millrace/stages/route v0.0.0
	github.com/jobspy/millrace/stages/scrape v0.0.0
	github.com/jobspy/millrace/stages/aggregate v0.0.0
	github.com/jobspy/millrace/stages/archive v0.0.0
)

replace (
	github.com/jobspy/millrace/schemas => ../../schemas
	github.com/jobspy/millrace/shared => ../../shared
	github.com/jobspy/millrace/stages/ingest => ../../stages/ingest
	github.com/jobspy/millrace/stages/validate => ../../stages/validate
	github.com/jobspy/millrace/stages/enrich => ../../stages/enrich
	github.com/jobspy/millrace/stages/standardize => ../../stages/standardize
	github.com/jobspy/millrace/stages/route => ../../stages/route
	github.com/jobspy/millrace/stages/scrape => ../../stages/scrape
	github.com/jobspy/millrace/stages/aggregate => ../../stages/aggregate
	github.com/jobspy/millrace/stages/archive => ../../stages/archive
)
