module github.com/jobspy/millrace/stages/validate

go 1.26.0

require (
	github.com/jobspy/millrace/schemas v0.0.0
	github.com/jobspy/millrace/shared v0.0.0
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3
	github.com/stretchr/testify v1.12.1
	golang.org/x/text v0.43.0
)

replace (
	github.com/jobspy/millrace/schemas => ../../schemas
	github.com/jobspy/millrace/shared => ../../shared
)
