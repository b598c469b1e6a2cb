// Command archive runs the archive stage.
package main

import (
	"os"

	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/stages/archive"
)

func main() { os.Exit(stage.Main("archive", archive.New)) }
