module github.com/jobspy/millrace/schemas

go 1.26.0
