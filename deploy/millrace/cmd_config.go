package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"

	"github.com/jobspy/millrace/deploy/millrace/operate"
	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/policy"
)

// configCmd groups the commands about policy.
type configCmd struct {
	Show configShowCmd `cmd:"" help:"Print a policy with every field."`
	Set  configSetCmd  `cmd:"" help:"Replace a policy, if the new one is good."`
}

// configShowCmd prints a policy.
type configShowCmd struct {
	Conn   connection `embed:""`
	Policy string     `arg:"" enum:"storage" help:"Which policy: storage."`
}

// Run implements the command.
func (c *configShowCmd) Run(ctx context.Context, g *globals) error {
	kept, err := g.policy(ctx)
	if err != nil {
		return err
	}
	if kept.Refused != nil {
		return fmt.Errorf("revision %d in the broker takes no effect: %w", kept.Revision, kept.Refused)
	}
	if kept.Revision == 0 {
		sayf(g.stderr, "nobody has set it: this is what counts until somebody does\n")
	}
	text, err := kept.Text()
	if err != nil {
		return err
	}
	_, err = g.stdout.Write(text)
	return err
}

// configSetCmd replaces a policy.
type configSetCmd struct {
	Conn   connection `embed:""`
	Policy string     `arg:"" enum:"storage" help:"Which policy: storage."`
	File   string     `arg:"" help:"The new policy as JSON, \"-\" for standard input."`
	DryRun bool       `help:"Show what would change and change nothing."`
}

// Help is shown by millrace config set --help.
func (*configSetCmd) Help() string {
	return `The new policy is checked first; where anything is wrong with it all of that is said, the exit code is 1 and nothing changes. A field that it leaves out has its default. Stages take it up within seconds, for documents that come in from then on; the names of buckets when they start.

Examples:
  millrace config show storage > storage.json
  millrace config set storage storage.json
  echo '{"views": ["by_date"]}' | millrace config set storage - --dry-run`
}

// Run implements the command.
func (c *configSetCmd) Run(ctx context.Context, g *globals) error {
	text, err := readInput(g, c.File)
	if err != nil {
		return err
	}
	seed := policy.Seed(nil)
	next, err := policy.ParseStorage(text, seed)
	if refused, ok := errors.AsType[*policy.RefusedError](err); ok {
		for _, v := range refused.Violations {
			sayf(g.stderr, "%s\n", printable(v.String()))
		}
		return fmt.Errorf("the %s policy is as it was, the new one has %d faults", c.Policy, len(refused.Violations))
	}
	if err != nil {
		return err
	}
	kept, err := g.policy(ctx)
	if err != nil {
		return err
	}
	differences, err := operate.Differences(kept.Storage, next)
	if err != nil {
		return err
	}
	for _, d := range differences {
		sayf(g.stdout, "%s\n", printable(d))
	}
	if !maps.Equal(kept.Buckets, next.Buckets) {
		sayf(g.stderr, "names of buckets are read at the start: stop the line before they change, and move what is stored\n")
	}
	switch {
	case c.DryRun:
		sayf(g.stderr, "dry run: nothing was changed\n")
		return nil
	case len(differences) == 0 && kept.Revision > 0 && kept.Refused == nil:
		sayf(g.stderr, "nothing differs\n")
		return nil
	}
	b, err := g.bus(ctx)
	if err != nil {
		return err
	}
	err = policy.Write(ctx, b, next, kept.Revision)
	switch {
	case errors.Is(err, bus.ErrNoStream):
		return fmt.Errorf("%w (run millrace provision first)", err)
	case errors.Is(err, bus.ErrRevision) || errors.Is(err, bus.ErrExists):
		return fmt.Errorf("somebody else changed the %s policy meanwhile, nothing was done: %w", c.Policy, err)
	default:
		return err
	}
}

// maxPolicy is the largest policy that is read, in bytes.
const maxPolicy = 1 << 20

// readInput reads a small file, or standard input where it is named "-".
func readInput(g *globals, path string) ([]byte, error) {
	in, name := g.stdin, "standard input"
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, notFoundf("%w", err)
		}
		defer f.Close()
		in, name = f, path
	}
	text, err := io.ReadAll(io.LimitReader(in, maxPolicy+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > maxPolicy {
		return nil, usagef("%s is over %d bytes", name, maxPolicy)
	}
	return text, nil
}
