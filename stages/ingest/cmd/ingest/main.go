// Command ingest runs the ingest stage.
package main

import (
	"os"

	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/stages/ingest"
)

func main() { os.Exit(stage.Main("ingest", ingest.New)) }
