package main

import (
	"context"

	"github.com/jobspy/millrace/deploy/millrace/operate"
	"github.com/jobspy/millrace/shared/topology"
)

// doctorCmd checks a set-up.
type doctorCmd struct {
	Conn    connection `embed:""`
	Monitor string     `help:"Monitoring address of the broker, or of each of a cluster separated by commas, instead of NATS_MONITOR_URL." placeholder:"URL"`
	JSON    bool       `help:"Print one JSON array."`
}

// Help is shown by millrace doctor --help.
func (*doctorCmd) Help() string {
	return `Checks broker (version, sync, streams and consumers against the plan, messages that nobody delivers, room, copies in a cluster, policy and retention, when credentials and certificates expire, clock), object store (buckets, capabilities, versions, a test object, clock) and the disk of --data. It changes nothing and leaves nothing behind. The exit code is 1 where a check fails.

Examples:
  millrace doctor
  millrace doctor --monitor http://127.0.0.1:8222 --json`
}

// Run implements the command.
func (c *doctorCmd) Run(ctx context.Context, g *globals) error {
	o, err := topologyOptions(g.env)
	if err != nil {
		return err
	}
	monitor := c.Monitor
	if monitor == "" {
		monitor = g.env["NATS_MONITOR_URL"]
	}
	d := operate.Doctor{
		Bus:  g.bus,
		S3:   func(ctx context.Context) (operate.ProbedStore, error) { return g.store(ctx) },
		Plan: topology.Plan(o), NATS: g.common.NATS, MonitorURL: monitor, Data: g.data,
	}
	checks := d.Run(ctx)
	failed := false
	for _, one := range checks {
		failed = failed || one.Verdict == operate.Fail
	}
	if c.JSON {
		if err := printJSON(g.stdout, checks); err != nil {
			return err
		}
	} else if err := printChecks(g, checks); err != nil {
		return err
	}
	if failed {
		return errSaid
	}
	return nil
}

func printChecks(g *globals, checks []operate.Check) error {
	t := newTable(g.stdout, "", "CHECK", "FOUND")
	for _, one := range checks {
		detail := one.Detail
		if one.Advice != "" {
			detail += " -> " + one.Advice
		}
		t.row(string(one.Verdict), one.Name, detail)
	}
	return t.flush()
}
