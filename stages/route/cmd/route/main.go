// Command route runs the route stage.
package main

import (
	"os"

	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/stages/route"
)

func main() { os.Exit(stage.Main("route", route.New)) }
