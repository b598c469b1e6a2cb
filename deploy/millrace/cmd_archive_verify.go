package main

import (
	"context"
	"errors"
	"strconv"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
)

// archiveVerifyCmd checks volumes.
type archiveVerifyCmd struct {
	Conn  connection `embed:""`
	Date  string     `help:"Only this day." placeholder:"2025-01-27" xor:"period"`
	Week  string     `help:"Only this ISO week." placeholder:"2025-W05" xor:"period"`
	Month string     `help:"Only this month." placeholder:"2025-01" xor:"period"`
	JSON  bool       `help:"Print one JSON array."`
}

// Help is shown by millrace archive verify --help.
func (*archiveVerifyCmd) Help() string {
	return `Reads parts and indexes whole and holds them against their checksums, each document against its record, days against the records that LLM_COMPLETED still has, weeks and months against the days. It changes nothing. COMPARED is how many records, or documents of days, were held against the volume. The exit code is 1 where anything is wrong, and 3 where there is no such volume.

Examples:
  millrace archive verify
  millrace archive verify --week 2025-W05 --json`
}

// Run implements the command.
func (c *archiveVerifyCmd) Run(ctx context.Context, g *globals) error {
	named, err := c.period()
	if err != nil {
		return err
	}
	b, err := g.bus(ctx)
	if err != nil {
		return err
	}
	states, err := b.KV(ctx, contract.KVJoin)
	if err != nil {
		return err
	}
	s, err := g.store(ctx)
	if err != nil {
		return err
	}
	v := volume.Verifier{Store: s, Records: b, States: states}
	if named == nil {
		if named, err = v.Periods(ctx); err != nil {
			return err
		}
	}
	reports := []volume.Report{}
	for _, p := range named {
		r, err := v.Verify(ctx, p)
		if errors.Is(err, store.ErrNotFound) {
			return notFoundf("there is no volume %s", p)
		}
		if err != nil {
			return err
		}
		reports = append(reports, r)
	}
	return c.print(g, reports)
}

// period returns the one that is named, or nil.
func (c *archiveVerifyCmd) period() ([]volume.Period, error) {
	for kind, name := range map[volume.Kind]string{volume.Daily: c.Date, volume.Weekly: c.Week, volume.Monthly: c.Month} {
		if name == "" {
			continue
		}
		p, err := volume.Parse(kind, name)
		if err != nil {
			return nil, usagef("%w", err)
		}
		return []volume.Period{p}, nil
	}
	return nil, nil
}

func (c *archiveVerifyCmd) print(g *globals, reports []volume.Report) error {
	wrong := false
	t := newTable(g.stdout, "VOLUME", "PARTS", "DOCUMENTS", "BYTES", "COMPARED", "VERDICT")
	for i := range reports {
		r := &reports[i]
		verdict := "ok"
		if !r.Sound() {
			wrong = true
			verdict = strconv.Itoa(len(r.Problems)+r.More) + " problems"
		}
		t.row(string(r.Kind)+"/"+r.Period, strconv.Itoa(r.Parts), strconv.Itoa(r.Documents), strconv.FormatInt(r.Bytes, 10),
			strconv.Itoa(r.Compared), verdict)
	}
	var err error
	switch {
	case c.JSON:
		err = printJSON(g.stdout, reports)
	case len(reports) == 0:
		sayf(g.stderr, "the archive is empty\n")
	default:
		err = t.flush()
	}
	if err != nil {
		return err
	}
	for i := range reports {
		for _, p := range reports[i].Problems {
			sayf(g.stderr, "millrace: %s\n", printable(p.String()))
		}
		if n := reports[i].More; n > 0 {
			sayf(g.stderr, "millrace: %s/%s: %d more\n", reports[i].Kind, reports[i].Period, n)
		}
	}
	if wrong {
		return errSaid
	}
	return nil
}
