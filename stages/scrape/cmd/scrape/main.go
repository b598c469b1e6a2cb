// Command scrape runs the scrape stage.
package main

import (
	"os"

	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/stages/scrape"
)

func main() { os.Exit(stage.Main("scrape", scrape.New)) }
