package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jobspy/millrace/deploy/millrace/operate"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
)

// storeCmd groups the commands about the object store.
type storeCmd struct {
	Probe storeProbeCmd `cmd:"" help:"Try what the object store can do, and how quick it is."`
}

// storeProbeCmd tries an object store.
type storeProbeCmd struct {
	Conn   connection `embed:""`
	Bucket string     `help:"Try it in this bucket instead of the line's own; one that does not exist is made, and removed afterwards." placeholder:"NAME"`
	JSON   bool       `help:"Print one JSON object."`
}

// Help is shown by millrace store probe --help.
func (*storeProbeCmd) Help() string {
	return `Writes some 1,600 small objects under _probe/ and removes them. It needs no broker: without one the bucket is llm-processed, or --bucket.

Examples:
  millrace store probe
  S3_ENDPOINT=host:9000 S3_ACCESS_KEY=… S3_SECRET_KEY=… millrace store probe --bucket try-it --json`
}

// probeTimeout bounds the whole of a probe.
const probeTimeout = 2 * time.Minute

// probed is what a probe found out.
type probed struct {
	Endpoint string             `json:"endpoint"`
	Bucket   string             `json:"bucket"`
	Can      store.Capabilities `json:"can"`
	Timings  store.Timings      `json:"timings"`
}

// Run implements the command.
func (c *storeProbeCmd) Run(ctx context.Context, g *globals) (err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	bucket, err := c.bucket(ctx, g)
	if err != nil {
		return err
	}
	if g.common.S3.AccessKey == "" {
		return usagef("object store %s: S3_ACCESS_KEY and S3_SECRET_KEY are not set", g.common.S3.Endpoint)
	}
	set := stage.S3Settings(g.common, nil)
	set.Bucket = bucket
	s, err := store.OpenS3(ctx, set)
	if err != nil {
		return usagef("object store %s: %w", set.Endpoint, err)
	}
	defer s.Close()
	made, err := s.EnsureBucket(ctx, bucket)
	if err != nil {
		return err
	}
	if made {
		defer func() { err = errors.Join(err, s.RemoveBucket(context.WithoutCancel(ctx), bucket)) }()
	}
	found := probed{Endpoint: set.Endpoint, Bucket: bucket}
	if found.Can, err = s.Probe(ctx); err != nil {
		return err
	}
	if found.Timings, err = s.Measure(ctx); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(g.stdout, found)
	}
	return found.print(g)
}

// bucket returns where to try: in the line's bucket, if there is a line.
func (c *storeProbeCmd) bucket(ctx context.Context, g *globals) (string, error) {
	if c.Bucket != "" {
		return c.Bucket, nil
	}
	kept, err := g.policy(ctx)
	if fault.Of(err).Kind == fault.Unavailable && ctx.Err() == nil {
		sayf(g.stderr, "there is no broker to ask what the buckets are called: %v\n", err)
		return contract.BucketProcessed, nil
	}
	return kept.Buckets.Physical(contract.BucketProcessed), err
}

func (p *probed) print(g *globals) error {
	t := newTable(g.stdout, "object store", p.Endpoint)
	t.row("tried in", p.Bucket)
	for _, one := range operate.CapabilityList(p.Can) {
		answer := "no"
		if one.Has {
			answer = "yes"
		}
		t.row(one.Name, answer)
	}
	if p.Can.Versioned {
		t.row("this bucket", "keeps what is replaced and deleted as older versions")
	}
	t.row("single put", fmt.Sprintf("%.1f ms (median)", float64(p.Timings.PutP50.Microseconds())/1000))
	t.row("parallel puts", fmt.Sprintf("%.0f a second", p.Timings.ParallelPuts))
	batched := "-"
	if p.Can.BatchedPut {
		batched = fmt.Sprintf("%.0f objects a second", p.Timings.BatchedObjects)
	}
	t.row("in batches", batched)
	t.row("not listed", fmt.Sprintf("%d of what was stored", p.Timings.Missing))
	return t.flush()
}
