// Command enrich runs the enrich stage.
package main

import (
	"os"

	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/stages/enrich"
)

func main() { os.Exit(stage.Main("enrich", enrich.New)) }
