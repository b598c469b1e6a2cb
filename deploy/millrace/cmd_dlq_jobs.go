package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jobspy/millrace/shared/letters"
)

// dlqJobsCmd groups the commands about replays that the line carries out.
type dlqJobsCmd struct {
	Ls     dlqJobsLsCmd     `cmd:"" default:"withargs" help:"List the jobs: state, counts, and why one stopped."`
	Cancel dlqJobsCancelCmd `cmd:"" help:"Let a job send nothing more. What it sent goes on."`
	Resume dlqJobsResumeCmd `cmd:"" help:"Go on with a job that stopped or was cancelled, with its canary first."`
}

// jobs opens the jobs.
func (g *globals) jobs(ctx context.Context) (letters.Jobs, error) {
	b, err := g.bus(ctx)
	return letters.Jobs{Bus: b, Now: time.Now}, err
}

// dlqJobsLsCmd lists jobs.
type dlqJobsLsCmd struct {
	Conn connection `embed:""`
	JSON bool       `help:"Print one JSON array."`
}

// Help is shown by millrace dlq jobs --help.
func (*dlqJobsCmd) Help() string {
	return "FAILED came back as dead letters, SKIPPED were not sent (--json says why). A job that waits has no archive stage at work on it. Jobs are remembered for 30 days.\n\nExamples:\n  millrace dlq jobs\n  millrace dlq jobs cancel 4rqxk2ab\n  millrace dlq jobs resume 4rqxk2ab"
}

// Run implements the command.
func (c *dlqJobsLsCmd) Run(ctx context.Context, g *globals) error {
	jobs, err := g.jobs(ctx)
	if err != nil {
		return err
	}
	all, err := jobs.List(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(g.stdout, all)
	}
	if len(all) == 0 {
		sayf(g.stderr, "no jobs\n")
		return nil
	}
	t := newTable(g.stdout, "JOB", "AGE", "STATE", "TOTAL", "SENT", "COMPLETED", "FAILED", "SKIPPED", "WHAT", "WHY")
	for _, j := range all {
		state := string(j.State)
		if j.State.Sends() {
			working, err := jobs.Working(ctx, j.ID)
			if err != nil {
				return err
			}
			if !working && time.Since(j.CreatedAt) > waitsAfter {
				state += " (waits)"
			}
		}
		t.row(j.ID, age(time.Since(j.CreatedAt)), state, strconv.Itoa(j.Total), strconv.Itoa(j.Sent), strconv.Itoa(j.Completed),
			strconv.Itoa(j.Failed), strconv.Itoa(j.Skipped), dash(j.What), dash(cut(j.Why, maxErrorCell)))
	}
	return t.flush()
}

// dlqJobsCancelCmd cancels a job.
type dlqJobsCancelCmd struct {
	Conn connection `embed:""`
	Job  string     `arg:"" help:"The job's id."`
	JSON bool       `help:"Print the job as JSON."`
}

// Run implements the command.
func (c *dlqJobsCancelCmd) Run(ctx context.Context, g *globals) error {
	jobs, err := g.jobs(ctx)
	if err != nil {
		return err
	}
	j, err := jobs.Cancel(ctx, c.Job)
	if err != nil {
		return jobError(err)
	}
	if c.JSON {
		return printJSON(g.stdout, j)
	}
	sayf(g.stdout, "job %s cancelled: %s\n", j.ID, counts(j))
	return nil
}

// dlqJobsResumeCmd takes a job up again.
type dlqJobsResumeCmd struct {
	Conn   connection `embed:""`
	Job    string     `arg:"" help:"The job's id."`
	Detach bool       `help:"Do not wait for it."`
	JSON   bool       `help:"Print the job as JSON."`
}

// Run implements the command.
func (c *dlqJobsResumeCmd) Run(ctx context.Context, g *globals) error {
	jobs, err := g.jobs(ctx)
	if err != nil {
		return err
	}
	j, err := jobs.Resume(ctx, c.Job)
	if err != nil {
		return jobError(err)
	}
	if c.Detach {
		return begun(g, j, c.JSON)
	}
	return (&following{g: g, jobs: jobs, json: c.JSON}).follow(ctx, j)
}

// jobError gives an error about a job its exit code.
func jobError(err error) error {
	if errors.Is(err, letters.ErrNoJob) {
		return notFoundf("%w", err)
	}
	return err
}

// begun prints a job that nobody waits for.
func begun(g *globals, j letters.Job, json bool) error {
	if json {
		return printJSON(g.stdout, j)
	}
	sayf(g.stdout, "%s\n", j.ID)
	sayf(g.stderr, "job %s goes on in the line; millrace dlq jobs shows how far it is\n", j.ID)
	return nil
}

// counts says how far a job has come.
func counts(j letters.Job) string {
	return fmt.Sprintf("%d of %d sent, %d completed, %d came back, %d skipped", j.Sent, j.Total, j.Completed, j.Failed, j.Skipped)
}
