package main

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jobspy/millrace/deploy/millrace/backup"
	"github.com/jobspy/millrace/shared/config"
	"github.com/jobspy/millrace/shared/stage"
)

// backupCmd copies what the broker holds.
type backupCmd struct {
	Conn connection `embed:""`
	Out  string     `help:"Folder for the backup; made where it is missing, else it must be empty." required:"" placeholder:"DIR"`
	JSON bool       `help:"Print the manifest as one JSON object."`
}

// Help is shown by millrace backup --help.
func (*backupCmd) Help() string {
	return `All streams on disk with their messages and consumers, and the key-value buckets; answers (LLM_RESULT) live in memory and are not in it. The line may run: what was accepted before is in the backup. Retries wait meanwhile. A backup without manifest.json was not finished.

The buckets of the object store are not in it; they have everything that was taken in, see millrace replay.

Examples:
  millrace backup --out /var/backups/millrace/2025-01-27`
}

// Run implements the command.
func (c *backupCmd) Run(ctx context.Context, g *globals) error {
	dir, err := filepath.Abs(c.Out)
	if err != nil {
		return usagef("find the folder %q: %w", c.Out, err)
	}
	b, err := g.bus(ctx)
	if err != nil {
		return err
	}
	t := newTable(g.stdout, "STREAM", "MESSAGES", "CONSUMERS", "BYTES")
	m, err := (&backup.Backup{Bus: b, Now: time.Now, Report: func(p backup.Part) { partRow(t, p) }}).To(ctx, dir)
	if err != nil {
		return err
	}
	if m.InHand > 0 {
		sayf(g.stderr, "%d retries were still being worked on and may be missing: make another backup when the line is quieter\n", m.InHand)
	}
	if c.JSON {
		return printJSON(g.stdout, m)
	}
	if err := t.flush(); err != nil {
		return err
	}
	sayf(g.stdout, "%s has %d streams, made in %s\n", dir, len(m.Streams), m.Ended.Sub(m.Began).Round(time.Millisecond))
	return nil
}

func partRow(t *table, p backup.Part) {
	t.row(p.Stream, strconv.FormatUint(p.Messages, 10), strconv.Itoa(p.Consumers), strconv.FormatInt(p.Bytes, 10))
}

// restoreCmd puts a backup back.
type restoreCmd struct {
	Conn    connection `embed:""`
	From    string     `arg:"" help:"Folder of the backup."`
	Replace bool       `help:"Let go of what the broker holds."`
	JSON    bool       `help:"Print one JSON object."`
}

// Help is shown by millrace restore --help.
func (*restoreCmd) Help() string {
	return `The backup is verified before anything is done. Without --replace nothing is restored where the broker holds documents already. The stages may run; they go on when the queues are there. What was accepted after the backup comes back from the buckets: run millrace provision, for what the backup does not have, and millrace replay --from raw.

Examples:
  millrace restore /var/backups/millrace/2025-01-27
  millrace provision
  millrace replay --from raw --since 2025-01-27 --yes`
}

// Run implements the command.
func (c *restoreCmd) Run(ctx context.Context, g *globals) error {
	dir, err := filepath.Abs(c.From)
	if err != nil {
		return usagef("find the folder %q: %w", c.From, err)
	}
	settings, err := config.Parse[stage.Config](g.env)
	if err != nil {
		return usagef("the settings are wrong: %w", err)
	}
	m, err := backup.Read(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return notFoundf("%s holds no finished backup: %w", dir, err)
	}
	if err != nil {
		return err
	}
	b, err := g.bus(ctx)
	if err != nil {
		return err
	}
	t := newTable(g.stdout, "STREAM", "MESSAGES", "CONSUMERS", "BYTES")
	done, err := (&backup.Restore{
		Bus: b, LedgerTTL: settings.LedgerTTL, Now: time.Now, Replace: c.Replace, Report: func(p backup.Part) { partRow(t, p) },
	}).From(ctx, dir, m)
	if errors.Is(err, backup.ErrInUse) {
		return usagef("%w; --replace lets go of that", err)
	}
	if c.JSON && err == nil {
		return printJSON(g.stdout, done)
	}
	if err = errors.Join(err, t.flush()); err != nil {
		return err
	}
	sayf(g.stdout, "%d streams are as they were on %s; %d documents ended while the backup was made\n",
		len(m.Streams), m.Began.Format(time.RFC3339), done.Ended)
	return nil
}
