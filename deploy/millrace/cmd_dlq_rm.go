package main

import (
	"context"
	"fmt"
	"time"
)

// dlqRmCmd deletes dead letters.
type dlqRmCmd struct {
	Conn   connection `embed:""`
	Filter dlqFilter  `embed:""`
	Seq    []uint64   `help:"Only these; may be given several times." placeholder:"N"`
	DryRun bool       `help:"Show what would be deleted and change nothing."`
	Yes    bool       `help:"Do not ask." short:"y"`
}

// Help is shown by millrace dlq rm --help.
func (*dlqRmCmd) Help() string {
	return "The objects in the bucket llm-dlq stay.\n\nExample:\n  millrace dlq rm --stage ingest --reason malformed --since 2025-01-01 --yes"
}

// Run implements the command.
func (c *dlqRmCmd) Run(ctx context.Context, g *globals) error {
	f, err := c.Filter.filter(time.Now())
	if err != nil {
		return err
	}
	f.Seqs = c.Seq
	q, err := g.letters(ctx)
	if err != nil {
		return err
	}
	selected, err := q.List(ctx, f)
	if err != nil {
		return err
	}
	if len(selected) == 0 {
		if len(c.Seq) > 0 || c.Filter.ID != "" || c.Filter.GroupID != "" {
			return notFoundf("no dead letter is selected; --all takes those too that have been replayed")
		}
		sayf(g.stderr, "no dead letter is selected\n")
		return nil
	}
	if err := printCounts(g.stderr, selected); err != nil {
		return err
	}
	if c.DryRun {
		sayf(g.stderr, "dry run: %d would be deleted\n", len(selected))
		return nil
	}
	if err := g.confirm(fmt.Sprintf("delete %d dead letters", len(selected)), len(selected), c.Yes); err != nil {
		return err
	}
	n, err := q.Remove(ctx, selected)
	sayf(g.stderr, "%d deleted\n", n)
	return err
}
