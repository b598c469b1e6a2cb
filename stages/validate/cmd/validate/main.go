// Command validate runs the validate stage.
package main

import (
	"os"

	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/stages/validate"
)

func main() { os.Exit(stage.Main("validate", validate.New)) }
