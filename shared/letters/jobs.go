package letters

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
)

// How jobs are kept. They lie in LLM_JOIN beside the state of the archive: LLM_LEDGER has what
// belongs to documents, LLM_CACHE what may be lost, LLM_CONFIG what people set.
const (
	// MaxLetters is the most letters of one job, so that its plan fits one message.
	MaxLetters = 1_000_000
	// maxJobs is how many jobs are remembered.
	maxJobs = 200
	// jobTTL is how long a job is remembered after its end.
	jobTTL = 30 * 24 * time.Hour
	// planTTL is how long a job may take, and can be taken up again.
	planTTL = 90 * 24 * time.Hour
	// wakeEvery is how often the line looks after a job.
	wakeEvery = 2 * time.Second
	// jobTries bounds how often a change of a job is begun anew because somebody else changed it.
	jobTries = 64
)

// keyIndex holds the ids of all jobs, oldest first.
const keyIndex = "replay.index"

func keyJob(id string) string  { return "replay." + id }
func keyPlan(id string) string { return "replay." + id + ".plan" }

// LeaseKey is held in LLM_JOIN by whoever works on a job.
func LeaseKey(id string) string { return "replay." + id + ".lease" }

// Jobs makes, finds and changes jobs. It may be used concurrently and from many processes.
type Jobs struct {
	Bus bus.Bus
	Now func() time.Time
}

// Create makes a job that replays letters as p says, whose Seqs are set by it. Of a document's
// letters only the newest is taken. The line takes the job up as soon as it can.
func (s Jobs) Create(ctx context.Context, chosen []Letter, p Plan, what string) (Job, error) {
	p.Seqs = seqsOf(chosen)
	if len(p.Seqs) > MaxLetters {
		return Job{}, fmt.Errorf("%d dead letters are too many for one job, which takes %d: select fewer", len(p.Seqs), MaxLetters)
	}
	r := record{Job: Job{
		ID: strings.ToLower(rand.Text()[:8]), What: what, Total: len(p.Seqs), Canary: p.Canary, Rate: p.Rate,
		StopAbove: p.StopAbove, CreatedAt: s.Now().UTC(),
	}}
	r.begin()
	kv, err := s.Bus.KV(ctx, contract.KVJoin)
	if err != nil {
		return Job{}, err
	}
	plan, err := codec.Marshal(p)
	if err != nil {
		return Job{}, fmt.Errorf("write the plan of a job: %w", err)
	}
	if _, err := kv.Create(ctx, keyPlan(r.ID), plan, planTTL); err != nil {
		return Job{}, err
	}
	if _, err := r.write(ctx, kv, 0); err != nil {
		return Job{}, err
	}
	if err := s.enter(ctx, kv, r.ID); err != nil {
		return Job{}, err
	}
	return r.Job, s.wake(ctx, r.ID)
}

// enter puts a job into the index, and those out of it that are forgotten.
func (s Jobs) enter(ctx context.Context, kv bus.KV, id string) error {
	for range jobTries {
		ids, rev, err := readIndex(ctx, kv)
		if err != nil {
			return err
		}
		var left []string
		for _, old := range ids {
			_, _, err := readJob(ctx, kv, old)
			if err == nil {
				left = append(left, old)
			} else if !errors.Is(err, ErrNoJob) {
				return err
			}
		}
		if left, err = forget(ctx, kv, left); err != nil {
			return err
		}
		value, err := codec.Marshal(append(left, id))
		if err != nil {
			return fmt.Errorf("write the list of jobs: %w", err)
		}
		if rev == 0 {
			_, err = kv.Create(ctx, keyIndex, value, 0)
		} else {
			_, err = kv.Update(ctx, keyIndex, value, rev, 0)
		}
		if !errors.Is(err, bus.ErrExists) && !errors.Is(err, bus.ErrRevision) {
			return err
		}
	}
	return errors.New("the list of jobs keeps changing")
}

// forget drops the oldest jobs that have ended, where there are too many.
func forget(ctx context.Context, kv bus.KV, ids []string) ([]string, error) {
	var left []string
	for i, id := range ids {
		if len(left)+len(ids)-i < maxJobs {
			return append(left, ids[i:]...), nil
		}
		r, _, err := readJob(ctx, kv, id)
		if err != nil && !errors.Is(err, ErrNoJob) {
			return nil, err
		}
		if err == nil && !r.settled() {
			left = append(left, id)
			continue
		}
		if err := errors.Join(kv.Delete(ctx, keyPlan(id)), kv.Delete(ctx, keyJob(id))); err != nil {
			return nil, err
		}
	}
	if len(left) >= maxJobs {
		return nil, fmt.Errorf("%d jobs are under way already", len(left))
	}
	return left, nil
}

func readIndex(ctx context.Context, kv bus.KV) ([]string, uint64, error) {
	e, err := kv.Get(ctx, keyIndex)
	if errors.Is(err, bus.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	var ids []string
	if err := codec.Unmarshal(e.Value, &ids); err != nil {
		return nil, 0, fmt.Errorf("read the list of jobs: %w", err)
	}
	return ids, e.Revision, nil
}

// readJob reads a job. Error: ErrNoJob.
func readJob(ctx context.Context, kv bus.KV, id string) (record, uint64, error) {
	var r record
	if !jobForm.MatchString(id) {
		return r, 0, fmt.Errorf("%q: %w", id, ErrNoJob)
	}
	e, err := kv.Get(ctx, keyJob(id))
	if errors.Is(err, bus.ErrNotFound) {
		return r, 0, fmt.Errorf("%s: %w", id, ErrNoJob)
	}
	if err != nil {
		return r, 0, err
	}
	if err := codec.Unmarshal(e.Value, &r); err != nil {
		return r, 0, fmt.Errorf("read job %s: %w", id, err)
	}
	return r, e.Revision, nil
}

// write writes a job over the one of revision rev; 0 means that there was none. Error:
// bus.ErrRevision where somebody else changed it.
func (r *record) write(ctx context.Context, kv bus.KV, rev uint64) (uint64, error) {
	value, err := codec.Marshal(r)
	if err != nil {
		return 0, fmt.Errorf("write job %s: %w", r.ID, err)
	}
	ttl := time.Duration(0)
	if r.settled() {
		ttl = jobTTL
	}
	if rev == 0 {
		return kv.Create(ctx, keyJob(r.ID), value, ttl)
	}
	return kv.Update(ctx, keyJob(r.ID), value, rev, ttl)
}

// wake lets the line look at a job now, and then again and again until it has ended.
func (s Jobs) wake(ctx context.Context, id string) error {
	h := bus.Header{
		contract.HeaderTimer: contract.CronReplay, contract.HeaderFileID: id, contract.HeaderLane: string(contract.Low),
	}
	m := bus.Message{Subject: cronSubject(id), Header: h, Body: []byte("{}")}
	target := contract.DueSubject(contract.Archive, contract.Low)
	if err := s.Bus.Every(ctx, m, wakeEvery, target); err != nil {
		return err
	}
	m.Subject = target
	_, err := s.Bus.Publish(ctx, m)
	return err
}

func cronSubject(id string) string { return contract.CronSubject(contract.CronReplay + "-" + id) }

// rest ends the waking of a job that has ended, unless it was taken up again meanwhile.
func (s Jobs) rest(ctx context.Context, id string) error {
	m, err := s.Bus.Last(ctx, contract.StreamRetry, cronSubject(id))
	if err == nil {
		err = s.Bus.Delete(ctx, contract.StreamRetry, m.Seq)
	}
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return err
	}
	j, err := s.Read(ctx, id)
	if err == nil && j.State.Sends() {
		return s.wake(ctx, id)
	}
	if errors.Is(err, ErrNoJob) {
		return nil
	}
	return err
}

// Read returns a job. Error: ErrNoJob.
func (s Jobs) Read(ctx context.Context, id string) (Job, error) {
	kv, err := s.Bus.KV(ctx, contract.KVJoin)
	if err != nil {
		return Job{}, err
	}
	r, _, err := readJob(ctx, kv, id)
	return r.Job, err
}

// List returns all jobs that are remembered, oldest first.
func (s Jobs) List(ctx context.Context) ([]Job, error) {
	kv, err := s.Bus.KV(ctx, contract.KVJoin)
	if err != nil {
		return nil, err
	}
	ids, _, err := readIndex(ctx, kv)
	if err != nil {
		return nil, err
	}
	jobs := make([]Job, 0, len(ids))
	for _, id := range ids {
		r, _, err := readJob(ctx, kv, id)
		if errors.Is(err, ErrNoJob) {
			continue
		}
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, r.Job)
	}
	slices.SortStableFunc(jobs, func(a, b Job) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return jobs, nil
}

// Working reports whether somebody works on a job at this moment.
func (s Jobs) Working(ctx context.Context, id string) (bool, error) {
	kv, err := s.Bus.KV(ctx, contract.KVJoin)
	if err != nil {
		return false, err
	}
	_, err = kv.Get(ctx, LeaseKey(id))
	if errors.Is(err, bus.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Cancel lets a job send nothing more; what it sent goes on. Errors: ErrNoJob, ErrEnded.
func (s Jobs) Cancel(ctx context.Context, id string) (Job, error) {
	return s.change(ctx, id, func(r *record) error {
		if r.State == JobDone {
			return fmt.Errorf("%s: %w", id, ErrEnded)
		}
		r.State, r.Why, r.EndedAt = JobCancelled, "cancelled by hand", s.Now().UTC()
		return nil
	})
}

// Resume takes up a job that was stopped or cancelled, with its canary first. One that is under
// way is only woken. Errors: ErrNoJob, ErrEnded.
func (s Jobs) Resume(ctx context.Context, id string) (Job, error) {
	j, err := s.change(ctx, id, func(r *record) error {
		if r.State == JobDone {
			return fmt.Errorf("%s: %w", id, ErrEnded)
		}
		if !r.State.Sends() {
			r.begin()
		}
		return nil
	})
	if err != nil {
		return j, err
	}
	return j, s.wake(ctx, id)
}

// change changes a job until nobody else changed it meanwhile.
func (s Jobs) change(ctx context.Context, id string, f func(*record) error) (Job, error) {
	kv, err := s.Bus.KV(ctx, contract.KVJoin)
	if err != nil {
		return Job{}, err
	}
	for range jobTries {
		r, rev, err := readJob(ctx, kv, id)
		if err == nil {
			err = f(&r)
		}
		if err != nil {
			return r.Job, err
		}
		if _, err = r.write(ctx, kv, rev); !errors.Is(err, bus.ErrRevision) {
			return r.Job, err
		}
	}
	return Job{}, fmt.Errorf("change job %s: %w", id, errors.New("it keeps changing"))
}
