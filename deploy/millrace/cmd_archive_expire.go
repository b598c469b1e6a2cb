package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jobspy/millrace/deploy/millrace/operate"
	"github.com/jobspy/millrace/stages/archive"
)

// archiveExpireCmd removes what is over its time.
type archiveExpireCmd struct {
	Conn   connection `embed:""`
	DryRun bool       `help:"Show what would be removed and change nothing."`
	JSON   bool       `help:"Print one JSON array."`
}

// Help is shown by millrace archive expire --help.
func (*archiveExpireCmd) Help() string {
	return `How long what stays is "retention" in the storage policy (millrace config show storage); it is all kept unless that says otherwise. Counted from the end of the day on which a document completed, its objects are removed when a volume that was verified holds them byte for byte. Kept are: what is not as in the archive, what a legal hold names, what a message or a dead letter names, the objects of documents that are on their way again. A day's volume goes when its week and month hold all of it and LLM_COMPLETED has left it behind, a week's when its months do. Bodies that travelled as objects (inbox, claims) go when their document has ended, or a week after they were stored where nobody knows their document.

A bucket that keeps versions keeps what is removed as an older version: millrace deletes no versions, as whoever turned them on wants them; how long they stay is a lifecycle rule of the bucket (noncurrent versions).

The archive stage does the same once a day. The exit code is 1 where something is wrong with a volume: then nothing that it holds is removed.

Examples:
  millrace archive expire --dry-run
  millrace archive expire --json`
}

// Run implements the command.
func (c *archiveExpireCmd) Run(ctx context.Context, g *globals) error {
	cfg, deps, err := g.archiver(ctx)
	if err != nil {
		return err
	}
	all, err := operate.ExpireArchive(ctx, cfg, deps, archive.ExpireOptions{DryRun: c.DryRun}, g.waiting)
	if err != nil {
		return err
	}
	return errors.Join(c.print(g, all), c.versions(ctx, g))
}

// versions says where what is removed still takes room.
func (c *archiveExpireCmd) versions(ctx context.Context, g *globals) error {
	keep, _, err := operate.Versioned(ctx, g.objects, g.objects.names)
	if err != nil || len(keep) == 0 {
		return err
	}
	sayf(g.stderr, "%s keep versions: what is removed stays as older versions until a lifecycle rule of the bucket removes those\n",
		strings.Join(keep, ", "))
	return nil
}

func (c *archiveExpireCmd) print(g *globals, all []archive.Expired) error {
	failed := false
	t := newTable(g.stdout, "CLASS", "PERIOD", "VOLUME", "REMOVED", "BYTES", "KEPT", "WHY")
	for _, x := range all {
		failed = failed || x.Failed
		why := x.Why
		if why == "" && x.Kept.Sum() > 0 {
			why = fmt.Sprintf("changed %d, held %d, named %d, inexact %d, unfinished %d",
				x.Kept.Changed, x.Kept.Held, x.Kept.Named, x.Kept.Inexact, x.Kept.Unfinished)
		}
		t.row(x.Class, dash(x.Period), dash(x.Volume), strconv.Itoa(x.Removed), strconv.FormatInt(x.Bytes, 10),
			strconv.Itoa(x.Kept.Sum()), dash(printable(why)))
	}
	var err error
	switch {
	case c.JSON:
		err = printJSON(g.stdout, all)
	case len(all) == 0:
		sayf(g.stderr, "nothing is over its time\n")
	default:
		err = t.flush()
	}
	if err == nil && c.DryRun {
		sayf(g.stderr, "dry run: nothing was removed\n")
	}
	if err == nil && failed {
		err = errSaid
	}
	return err
}
