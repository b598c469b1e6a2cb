module github.com/jobspy/millrace/stages/archive

go 1.26.0

require github.com/jobspy/millrace/shared v0.0.0

replace github.com/jobspy/millrace/shared => ../../shared

