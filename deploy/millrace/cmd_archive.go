package main

import (
	"context"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"github.com/jobspy/millrace/deploy/millrace/operate"
	"github.com/jobspy/millrace/shared/config"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/stages/archive"
)

// archiveCmd groups the commands about the archive.
type archiveCmd struct {
	Run     archiveRunCmd     `cmd:"" help:"Bring the archive up to date, as the archive stage's timer does."`
	Ls      archiveLsCmd      `cmd:"" help:"List the volumes: days, weeks and months."`
	Verify  archiveVerifyCmd  `cmd:"" help:"Prove that the volumes hold exactly the documents of their periods."`
	Restore archiveRestoreCmd `cmd:"" help:"Write the objects of a day's documents back to where they were."`
	Expire  archiveExpireCmd  `cmd:"" help:"Remove what is over its time by the storage policy, as the archive stage's timer does."`
}

// archiveRunCmd brings the archive up to date.
type archiveRunCmd struct {
	Conn connection `embed:""`
	Now  bool       `help:"Close the running day's part too, instead of waiting for the day's end."`
	JSON bool       `help:"Print one JSON object."`
}

// Help is shown by millrace archive run --help.
func (*archiveRunCmd) Help() string {
	return `Writes the parts that are full or whose day is over, and merges the weeks and months that are over. Parts are as large as ARCHIVE_PART_DOCUMENTS and ARCHIVE_PART_BYTES say: set them as for the archive stage. While another run is going on it waits.

Examples:
  millrace archive run
  millrace archive run --now`
}

// Run implements the command.
func (c *archiveRunCmd) Run(ctx context.Context, g *globals) error {
	cfg, deps, err := g.archiver(ctx)
	if err != nil {
		return err
	}
	progress := isTerminal(g.stderr)
	o := archive.Options{Now: c.Now, Progress: func(d archive.Done) {
		if progress {
			sayf(g.stderr, "\r%d documents in %d parts, %d parts merged", d.Documents, d.Parts, d.Merged)
		}
	}}
	done, err := operate.RunArchive(ctx, cfg, deps, o, g.waiting)
	if progress && done.Parts+done.Merged > 0 {
		sayf(g.stderr, "\r\x1b[K")
	}
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(g.stdout, done)
	} else {
		sayf(g.stdout, "%d documents archived in %d parts, %d parts merged into weeks and months, %d documents wait for the day's end\n",
			done.Documents, done.Parts, done.Merged, done.Waiting)
	}
	if err == nil && done.Damaged > 0 {
		err = errSaid // the log lines have said it
	}
	return err
}

// archive is what the archive stage works with, under the storage policy as it is at any time.
func (g *globals) archive(ctx context.Context) (stage.Deps, error) {
	s, err := g.store(ctx)
	if err != nil {
		return stage.Deps{}, err
	}
	seed, err := g.seed()
	if err != nil {
		return stage.Deps{}, err
	}
	g.live, err = policy.Watch(ctx, policy.Settings{Bus: g.opened, Seed: seed, Log: zerolog.Nop()})
	if err != nil {
		return stage.Deps{}, err
	}
	return stage.Deps{
		Bus: g.opened, Store: s, Names: s.names, Clock: time.Now, Log: zerolog.New(g.stderr).Level(zerolog.WarnLevel),
		Policy: g.live.Storage,
	}, nil
}

// archiver is the archive stage's configuration and what it works with.
func (g *globals) archiver(ctx context.Context) (archive.Config, stage.Deps, error) {
	cfg, err := config.Parse[archive.Config](g.env)
	if err != nil {
		return cfg, stage.Deps{}, usagef("the settings are wrong: %w", err)
	}
	deps, err := g.archive(ctx)
	return cfg, deps, err
}

// waiting says that somebody else is at the archive.
func (g *globals) waiting() { sayf(g.stderr, "%v; waiting for it\n", archive.ErrBusy) }

// archiveLsCmd lists the volumes.
type archiveLsCmd struct {
	Conn connection `embed:""`
	JSON bool       `help:"Print one JSON array."`
}

// Help is shown by millrace archive ls --help.
func (*archiveLsCmd) Help() string {
	return "FIRST and LAST are when the first and the last document of the volume completed.\n\nExample:\n  millrace archive ls"
}

// Run implements the command.
func (c *archiveLsCmd) Run(ctx context.Context, g *globals) error {
	s, err := g.store(ctx)
	if err != nil {
		return err
	}
	all, err := operate.ListVolumes(ctx, s)
	if err != nil {
		return err
	}
	damaged := false
	t := newTable(g.stdout, "VOLUME", "PARTS", "DOCUMENTS", "BYTES", "FIRST", "LAST")
	for i := range all {
		v := &all[i]
		if v.Error != "" {
			damaged = true
			sayf(g.stderr, "millrace: %s\n", printable(v.Error))
			continue
		}
		t.row(string(v.Kind)+"/"+v.Period, strconv.Itoa(v.Parts), strconv.Itoa(v.Documents), strconv.FormatInt(v.Bytes, 10),
			moment(v.FirstAt), moment(v.LastAt))
	}
	switch {
	case c.JSON:
		err = printJSON(g.stdout, all)
	case len(all) == 0:
		sayf(g.stderr, "the archive is empty\n")
	default:
		err = t.flush()
	}
	if err == nil && damaged {
		err = errSaid
	}
	return err
}

// moment writes a time for a table.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}
