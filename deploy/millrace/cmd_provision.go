package main

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jobspy/millrace/deploy/millrace/operate"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/topology"
)

// provisionCmd makes streams, consumers and buckets.
type provisionCmd struct {
	Conn    connection    `embed:""`
	DryRun  bool          `help:"Show what would be done and change nothing."`
	Storage string        `help:"Begin with this storage policy where there is none yet, \"-\" for standard input." placeholder:"FILE"`
	Wait    time.Duration `help:"How long to wait for broker and store to come up." default:"60s"`
	JSON    bool          `help:"Print one JSON array."`
}

// Help is shown by millrace provision --help.
func (*provisionCmd) Help() string {
	return `It can be run again at any time: it makes what is missing, brings settings in line and deletes nothing, but that LLM_TIMELINE begins anew where STREAM_REPLICAS goes from 1 to more. STREAM_REPLICAS says how many servers of a cluster keep each message (1); restart the stages when it has changed. A line without a storage policy gets one: that of --storage, else the built-in one with the views of STORE_VIEWS.

Examples:
  millrace provision
  millrace provision --storage storage_config.json
  millrace provision --dry-run`
}

// Run implements the command.
func (c *provisionCmd) Run(ctx context.Context, g *globals) error {
	o, err := topologyOptions(g.env)
	if err != nil {
		return err
	}
	seed, err := c.seed(g)
	if err != nil {
		return err
	}
	var changes []topology.Change
	said := false
	err = operate.Await(ctx, c.Wait, final, func(ctx context.Context) (err error) {
		defer func() {
			if err != nil && !final(err) && !said {
				sayf(g.stderr, "millrace: waiting for up to %s: %v\n", c.Wait, err)
				said = true
			}
		}()
		b, err := g.bus(ctx)
		if err != nil {
			return err
		}
		kept, err := policy.Read(ctx, b, seed)
		if err != nil {
			return err
		}
		s, err := g.openStore(ctx, kept.Buckets)
		if err != nil {
			return err
		}
		changes, err = operate.Provision(ctx, operate.Provisioning{
			Bus: b, Store: s, Plan: topology.Plan(o), Seed: seed, Names: kept.Buckets, DryRun: c.DryRun,
		})
		return err
	})
	return errors.Join(err, c.print(g, changes))
}

// seed is the storage policy of a line that has none yet.
func (c *provisionCmd) seed(g *globals) (policy.Storage, error) {
	seed, err := g.seed()
	if err != nil || c.Storage == "" {
		return seed, err
	}
	text, err := readInput(g, c.Storage)
	if err != nil {
		return seed, err
	}
	s, err := policy.ParseStorage(text, seed)
	if err != nil {
		return seed, usagef("--storage: %w", err)
	}
	return s, nil
}

// final says which errors no waiting will mend: wrong settings, and what the broker refuses.
func final(err error) bool {
	_, wrong := errors.AsType[*exitError](err)
	return wrong || fault.Of(err).Kind != fault.Unavailable
}

func (c *provisionCmd) print(g *globals, changes []topology.Change) error {
	if c.JSON {
		if changes == nil {
			changes = []topology.Change{}
		}
		return printJSON(g.stdout, changes)
	}
	if len(changes) == 0 {
		return nil
	}
	t := newTable(g.stdout, "ACTION", "KIND", "NAME", "DIFFERENCE")
	count := map[topology.Action]int{}
	for _, one := range changes {
		count[one.Action]++
		if one.Action == topology.Unchanged {
			continue
		}
		fields := make([]string, len(one.Fields))
		for i, f := range one.Fields {
			fields[i] = f.String()
		}
		t.row(string(one.Action), string(one.Kind), one.Name, strings.Join(fields, ", "))
	}
	if count[topology.Unchanged] < len(changes) {
		if err := t.flush(); err != nil {
			return err
		}
	}
	would := ""
	if c.DryRun {
		would = " (dry run: nothing was changed)"
	}
	sayf(g.stdout, "%d created, %d updated, %d unchanged%s\n",
		count[topology.Created], count[topology.Updated], count[topology.Unchanged], would)
	return nil
}

// The numbers of replicas that a cluster can keep.
const (
	minReplicas = 1
	maxReplicas = 5
)

// topologyOptions reads the settings that size the topology.
func topologyOptions(env map[string]string) (topology.Options, error) {
	var o topology.Options
	if v := env["STREAM_REPLICAS"]; v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < minReplicas || n > maxReplicas {
			return o, usagef("STREAM_REPLICAS is %q, must be from %d to %d", v, minReplicas, maxReplicas)
		}
		o.Replicas = n
	}
	return o, nil
}
