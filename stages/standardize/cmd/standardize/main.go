// Command standardize runs the standardize stage.
package main

import (
	"os"

	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/stages/standardize"
)

func main() { os.Exit(stage.Main("standardize", standardize.New)) }
