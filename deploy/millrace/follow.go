package main

import (
	"context"
	"time"

	"github.com/jobspy/millrace/shared/letters"
)

const (
	// followEvery is how often a job is looked at while somebody waits for it.
	followEvery = 100 * time.Millisecond
	// tellEvery is how often its progress is told where there is no terminal.
	tellEvery = 10 * time.Second
	// waitsAfter is how long nobody may work on a job before it is said to wait. After a crash it
	// takes the next stage a little less.
	waitsAfter = 15 * time.Second
)

// following shows the progress of a job until it has ended.
type following struct {
	g    *globals
	jobs letters.Jobs
	json bool

	job   letters.Job
	drawn bool      // a progress is on the terminal
	told  time.Time // when the progress was told
	idle  time.Time // since when nobody works on the job; zero while somebody does
	waits bool      // that was said
}

// follow waits for the end of a job. The job does not depend on it.
func (f *following) follow(ctx context.Context, j letters.Job) error {
	f.job, f.told = j, time.Now()
	if !f.json {
		sayf(f.g.stdout, "job %s\n", j.ID)
	}
	t := time.NewTicker(followEvery)
	defer t.Stop()
	for f.job.State.Sends() {
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		err := f.look(ctx)
		if ctx.Err() != nil {
			f.erase()
			sayf(f.g.stderr, "job %s goes on in the line: millrace dlq jobs shows it, millrace dlq jobs cancel %s ends it\n", j.ID, j.ID)
			return errSaid
		}
		if err != nil {
			return err
		}
	}
	return f.end()
}

// look reads how far the job is and tells it.
func (f *following) look(ctx context.Context) error {
	j, err := f.jobs.Read(ctx, f.job.ID)
	if err != nil {
		return err
	}
	now := time.Now()
	moved := j.Sent != f.job.Sent || j.Completed != f.job.Completed || j.Failed != f.job.Failed || j.Skipped != f.job.Skipped
	f.job = j
	if moved || !j.State.Sends() {
		f.idle = time.Time{}
	} else if err := f.watch(ctx, now); err != nil {
		return err
	}
	switch {
	case isTerminal(f.g.stderr) && moved:
		sayf(f.g.stderr, "\r\x1b[K%s: %s", j.State, counts(j))
		f.drawn = true
	case !isTerminal(f.g.stderr) && now.Sub(f.told) >= tellEvery && j.State.Sends():
		sayf(f.g.stderr, "%s: %s\n", j.State, counts(j))
		f.told = now
	}
	return nil
}

// watch says when nobody works on the job.
func (f *following) watch(ctx context.Context, now time.Time) error {
	working, err := f.jobs.Working(ctx, f.job.ID)
	switch {
	case err != nil:
		return err
	case working:
		f.idle, f.waits = time.Time{}, false
	case f.idle.IsZero():
		f.idle = now
	case !f.waits && now.Sub(f.idle) >= f.patience():
		f.waits = true
		f.erase()
		sayf(f.g.stderr, "job %s waits: no archive stage is at work on it. It goes on when the line runs, also without this command\n", f.job.ID)
	}
	return nil
}

// patience is how long nobody may work on the job before that is said.
func (f *following) patience() time.Duration {
	if f.job.BegunAt.IsZero() {
		return waitsAfter / 5 // the first turn comes at once
	}
	return waitsAfter
}

// erase removes the progress from the terminal.
func (f *following) erase() {
	if f.drawn {
		sayf(f.g.stderr, "\r\x1b[K")
		f.drawn = false
	}
}

// end tells how the job ended; all has to have completed for it to be a success.
func (f *following) end() error {
	f.erase()
	j := f.job
	if f.json {
		if err := printJSON(f.g.stdout, j); err != nil {
			return err
		}
	}
	for _, p := range j.Problems {
		sayf(f.g.stderr, "dead letter %d (%s) %s\n", p.Seq, printable(p.FileID), printable(p.Error))
	}
	if more := j.Failed + j.Skipped - len(j.Problems); more > 0 && len(j.Problems) > 0 {
		sayf(f.g.stderr, "and %d more\n", more)
	}
	sayf(f.g.stderr, "job %s %s: %s\n", j.ID, j.State, counts(j))
	if j.Why != "" {
		sayf(f.g.stderr, "%s\n", printable(j.Why))
	}
	if j.State == letters.JobStopped || j.State == letters.JobCancelled {
		sayf(f.g.stderr, "millrace dlq jobs resume %s goes on with it\n", j.ID)
	}
	if j.State != letters.JobDone || j.Completed < j.Total {
		return errSaid
	}
	return nil
}
