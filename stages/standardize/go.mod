module github.com/jobspy/millrace/stages/standardize

go 1.26.0

require (
	github.com/jobspy/millrace/shared v0.0.0
	github.com/stretchr/testify v1.12.1
)

replace github.com/jobspy/millrace/shared => ../../shared
