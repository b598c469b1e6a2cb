package aggregate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
)

// targetPoll is how often a target that is not there yet is looked for.
const targetPoll = 2 * time.Second

// The bounds of what is said about one document.
const (
	aboutTTL   = 7 * 24 * time.Hour // after that the result object alone remembers it
	maxChanges = 1000
)

// about lists what others say about a document, by the file_id of who says it.
type about struct {
	Changes map[string]said `json:"changes"`
}

// said names one change and where it is.
type said struct {
	Kind  contract.Outcome `json:"kind"` // merged or verdict
	Ref   store.Ref        `json:"ref"`  // the result object of who says it
	Bytes int              `json:"bytes"`
	Sum   string           `json:"sha256"` // of the change as JSON
}

// aboutKey is the key of an about. A dot stands in no file_id.
func aboutKey(fileID string) string { return "target." + fileID }

// change takes an enrichment or a verdict: it changes the result of what it is about, and
// has a result of its own that says so.
func (a *aggregator) change(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
	c, err := changeOf(in)
	if err != nil {
		return nil, err
	}
	entry, err := a.target(ctx, in, c.Target)
	if err != nil {
		return nil, err
	}
	r := &result{Outcome: contract.OutcomeMerged, Change: c}
	if c.Verdict != nil {
		r.Outcome = contract.OutcomeVerdict
	}
	value, err := codec.Marshal(c)
	if err != nil {
		return nil, fault.Permanently(contract.ReasonMalformed, fmt.Errorf("write change: %w", err))
	}
	s := said{Kind: r.Outcome, Ref: doc.ResultRef(in.Metadata.CreatedAt, c.FileID), Bytes: len(value), Sum: doc.Sum(value)}
	if s.Bytes > a.cfg.MergeMaxBytes {
		return nil, fault.New(contract.ReasonOversize, fmt.Sprintf("the change has %d bytes", s.Bytes))
	}
	r.Metadata = metadata(in)
	made, err := a.write(ctx, c.FileID, r.unchanged) // it is there before somebody names it
	if err != nil {
		return nil, err
	}
	outs, err := outputs(in, made, doc.Outcome{Outcome: r.Outcome})
	if err != nil {
		return nil, err
	}
	if err := a.say(ctx, c, s); err != nil {
		return nil, err
	}
	return outs, a.rebuild(ctx, c.Target.FileID, entry.CreatedAt)
}

// changeOf reads a change out of its document and completes its target: the file_id of a
// job is what stands before the last "_" of its job_id.
func changeOf(in *doc.Document) (*change, error) {
	s := in.Standard
	if s == nil || s.Target == nil {
		return nil, fault.New(contract.ReasonMalformed, "the document names no target")
	}
	c := &change{FileID: in.Metadata.FileID, Target: *s.Target}
	if id := c.Target.JobID; id != "" {
		fileID := id[:max(strings.LastIndexByte(id, '_'), 0)]
		if c.Target.FileID != "" && c.Target.FileID != fileID {
			return nil, fault.New(contract.ReasonUnroutable, fmt.Sprintf("target job %q is not of file %q", id, c.Target.FileID))
		}
		c.Target.FileID = fileID
	}
	if !doc.ValidID(c.Target.FileID) {
		return nil, fault.New(contract.ReasonUnroutable, fmt.Sprintf("target %q is no id", c.Target.FileID))
	}
	if c.Target.FileID == c.FileID {
		return nil, fault.New(contract.ReasonUnroutable, "the document is its own target")
	}
	if contract.Task(in.Metadata.TaskType) == contract.QualityValidation {
		if s.Review == nil {
			return nil, fault.New(contract.ReasonMalformed, "the document has no verdict")
		}
		c.Verdict = s.Review
		return c, nil
	}
	c.Facts = s.Facts
	return c, nil
}

// target finds what a change is about. One that is unknown, on its way or dead is waited
// for until the join deadline.
func (a *aggregator) target(ctx context.Context, in *doc.Document, t doc.Target) (ledger.Entry, error) {
	e, missing, err := a.find(ctx, t)
	if err != nil || missing == nil {
		return e, err
	}
	left := in.Origin.Time.Add(a.cfg.JoinDeadline).Sub(a.now())
	if left <= 0 {
		return e, fault.Permanently(contract.ReasonUnroutable, missing)
	}
	return e, fault.Wait(missing, min(targetPoll, left))
}

// find looks a target up; missing says why it is not there.
func (a *aggregator) find(ctx context.Context, t doc.Target) (e ledger.Entry, missing, err error) {
	e, err = a.deps.Ledger.Read(ctx, t.FileID)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return e, fmt.Errorf("target %s is not known", t.FileID), nil
	case err != nil:
		return e, nil, err
	case e.State != ledger.Done:
		return e, fmt.Errorf("target %s has not ended", t.FileID), nil
	case e.Holder.Kind != ledger.Completed:
		return e, fmt.Errorf("target %s is a dead letter", t.FileID), nil
	}
	var r result
	err = a.get(ctx, doc.ResultRef(e.CreatedAt, t.FileID), &r)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return e, fmt.Errorf("target %s has no result", t.FileID), nil
	case err != nil:
		return e, nil, err
	case t.JobID != "" && !slices.ContainsFunc(r.Jobs, func(j doc.JobPosting) bool { return j.JobID == t.JobID }):
		return e, fmt.Errorf("target job %s is not in the result of %s", t.JobID, t.FileID), nil
	}
	return e, nil, nil
}

// say enters a change into what is said about its target.
func (a *aggregator) say(ctx context.Context, c *change, s said) error {
	kv, err := a.joins.KV(ctx)
	if err != nil {
		return err
	}
	key := aboutKey(c.Target.FileID)
	for range tries {
		var all about
		rev, err := read(ctx, kv, key, &all)
		if err != nil {
			return fmt.Errorf("read what is said about %s: %w", c.Target.FileID, err)
		}
		if all.Changes == nil {
			all.Changes = map[string]said{}
		}
		all.Changes[c.FileID] = s
		if err := a.fits(all); err != nil {
			return err
		}
		done, err := swap(ctx, kv, key, all, rev, aboutTTL)
		if err != nil {
			return fmt.Errorf("enter what is said about %s: %w", c.Target.FileID, err)
		}
		if done {
			return nil
		}
	}
	return fmt.Errorf("enter what is said about %s: %w", c.Target.FileID, errContended)
}

// fits returns an error where more is said about a document than a result may hold.
func (a *aggregator) fits(all about) error {
	size := 0
	for _, s := range all.Changes {
		size += s.Bytes
	}
	if len(all.Changes) > maxChanges || size > a.cfg.MergeMaxBytes {
		return fault.New(contract.ReasonOversize, fmt.Sprintf("the target would have %d changes of %d bytes", len(all.Changes), size))
	}
	return nil
}
