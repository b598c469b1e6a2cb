// Command aggregate runs the aggregate stage.
package main

import (
	"os"

	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/stages/aggregate"
)

func main() { os.Exit(stage.Main("aggregate", aggregate.New)) }
