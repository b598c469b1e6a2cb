package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jobspy/millrace/deploy/millrace/operate"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

// watchCmd publishes what comes into a folder.
type watchCmd struct {
	Conn     connection `embed:""`
	Dir      string     `arg:"" help:"Folder to watch; the folders pending, processing, completed and failed are made in it."`
	Task     string     `help:"Task type; else that of the file name or of the metadata." placeholder:"TASK"`
	Provider string     `help:"Provider; else that of the file name or of the metadata." placeholder:"NAME"`
	Lane     string     `help:"Priority: high, normal or low; else the rules decide." placeholder:"LANE"`
	JSON     bool       `help:"Print one JSON object for each change."`
}

// Help is shown by millrace watch --help.
func (*watchCmd) Help() string {
	return `A file counts as written when it has not changed for a second; files renamed into the folder are taken at once where they are older. Hidden files are left alone. Stopping and starting again loses and repeats nothing. Run one for each folder.

Example:
  millrace watch --provider openai /var/spool/llm`
}

// Run implements the command.
func (c *watchCmd) Run(ctx context.Context, g *globals) error {
	a := operate.Address{Task: c.Task, Provider: c.Provider, Lane: contract.Lane(c.Lane)}
	if err := a.Validate(); err != nil {
		return usagef("%w", err)
	}
	if info, err := os.Stat(c.Dir); err != nil || !info.IsDir() {
		return notFoundf("%s is not a folder", c.Dir)
	}
	l, err := g.ledger(ctx)
	if err != nil {
		return err
	}
	b, err := g.bus(ctx)
	if err != nil {
		return err
	}
	// Large documents need the store: without its keys better nothing is begun.
	s, err := g.store(ctx)
	if err != nil {
		return err
	}
	w := operate.Watcher{
		Dir: c.Dir, Address: a, Bus: b, Ledger: l,
		Publisher: &operate.Publisher{Bus: b, Store: func(context.Context) (store.Store, error) { return s, nil }},
		Report:    func(e operate.Event) { c.print(g, e) },
		Trouble:   func(err error) { sayf(g.stderr, "millrace: %v\n", err) },
	}
	return w.Run(ctx)
}

func (c *watchCmd) print(g *globals, e operate.Event) {
	if c.JSON {
		_ = printLine(g.stdout, e) // whoever reads has gone: the work goes on
		return
	}
	why := []string{string(e.Stage), string(e.Reason), e.Error}
	sayf(g.stdout, "%s\n", strings.TrimRight(fmt.Sprintf("%s  %-10s  %s  %s  %s",
		e.At.Format(time.RFC3339), e.State, printable(e.File), dash(e.FileID), printable(strings.Join(strings.Fields(strings.Join(why, " ")), " "))), " "))
}
