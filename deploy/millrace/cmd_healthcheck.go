package main

import (
	"context"
	"net/url"

	"github.com/jobspy/millrace/deploy/millrace/operate"
)

// healthcheckCmd asks a process whether it is ready.
type healthcheckCmd struct {
	URL string `arg:"" help:"What to ask, such as http://127.0.0.1:8081/readyz."`
}

// Help is shown by millrace healthcheck --help.
func (*healthcheckCmd) Help() string {
	return "Exit code 0 where the answer is 200 within five seconds; else the reasons are printed.\n\nExample:\n  millrace healthcheck http://127.0.0.1:8080/readyz"
}

// Run implements the command.
func (c *healthcheckCmd) Run(ctx context.Context) error {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return usagef("%q is not an http or https address", c.URL)
	}
	return operate.Healthy(ctx, c.URL)
}
