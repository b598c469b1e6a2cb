module github.com/jobspy/millrace/deploy/config

go 1.26.0
