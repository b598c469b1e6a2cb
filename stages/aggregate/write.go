package aggregate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/store"
)

// state is all that a result is made of besides its document, as it stood at one moment.
type state struct {
	join      *join // nil where there is none
	joinRev   uint64
	about     about
	aboutRev  uint64
	published *result // what is stored already; only read where a result is rebuilt
}

// written is a result that was stored, and the join it was made of.
type written struct {
	result *result
	join   *join
}

// look reads the state of a document.
func (a *aggregator) look(ctx context.Context, kv bus.KV, fileID string) (*state, error) {
	s := &state{}
	var err error
	if s.join, s.joinRev, err = a.readJoin(ctx, kv, fileID); err != nil {
		return nil, err
	}
	if s.aboutRev, err = read(ctx, kv, aboutKey(fileID), &s.about); err != nil {
		return nil, fmt.Errorf("read what is said about %s: %w", fileID, err)
	}
	return s, nil
}

// write is the only place where results are stored. It makes a result out of the state of
// its document with base, adds all that others say about it, stores it, and does that again
// while the state changed meanwhile: whoever changes the state writes after that, so that
// the last write holds everything.
func (a *aggregator) write(ctx context.Context, fileID string, base func(context.Context, *state) (*result, error)) (*result, error) {
	kv, err := a.joins.KV(ctx)
	if err != nil {
		return nil, err
	}
	s, err := a.look(ctx, kv, fileID)
	if err != nil {
		return nil, err
	}
	for range tries {
		r, err := base(ctx, s)
		if err != nil {
			return nil, err
		}
		if err := a.applyAll(ctx, r, s); err != nil {
			return nil, err
		}
		body, err := r.encode()
		if err != nil {
			return nil, err
		}
		if err := a.put(ctx, r.ref(), body); err != nil {
			return nil, err
		}
		after, err := a.look(ctx, kv, fileID)
		if err != nil {
			return nil, err
		}
		if after.joinRev == s.joinRev && after.aboutRev == s.aboutRev {
			return r, nil
		}
		s = after
	}
	return nil, fmt.Errorf("write result of %s: %w", fileID, errContended)
}

// writeJoined stores the result of a search with all answers there are.
func (a *aggregator) writeJoined(ctx context.Context, in *doc.Document, known map[string][]doc.JobPosting) (written, error) {
	var w written
	r, err := a.write(ctx, in.Metadata.FileID, func(ctx context.Context, s *state) (*result, error) {
		if s.join == nil || s.join.Replay != in.Replay {
			return nil, fmt.Errorf("the join of %s is gone", in.Metadata.FileID)
		}
		w.join = s.join
		return a.joined(ctx, metadata(in), s.join, known)
	})
	w.result = r
	return w, err
}

// joined makes a result of all answers of a join.
func (a *aggregator) joined(ctx context.Context, m doc.Metadata, j *join, known map[string][]doc.JobPosting) (*result, error) {
	r := &result{Metadata: m, Sources: j.reports(true)}
	r.Outcome = outcomeOf(r.Sources)
	var jobs []doc.JobPosting
	for _, s := range j.Sources {
		ref := j.Answers[s].Ref
		if ref == nil {
			continue
		}
		found, ok := known[s]
		if !ok {
			var body replyBody
			if err := a.get(ctx, *ref, &body); err != nil {
				return nil, err
			}
			found = body.Jobs
		}
		jobs = append(jobs, found...)
	}
	r.Jobs = merge(m.FileID, jobs)
	return r, nil
}

// rebuild writes the result of a completed document anew, for what is said about it has
// changed. It is made from its answers while they are remembered, else from itself.
func (a *aggregator) rebuild(ctx context.Context, fileID string, created time.Time) error {
	_, err := a.write(ctx, fileID, func(ctx context.Context, s *state) (*result, error) {
		var old result
		if err := a.get(ctx, doc.ResultRef(created, fileID), &old); err != nil {
			return nil, err
		}
		s.published = &result{Enrichments: old.Enrichments, Verdicts: old.Verdicts}
		if s.join != nil && s.join.ClosedBy != "" {
			r, err := a.joined(ctx, old.Metadata, s.join, nil)
			if !errors.Is(err, store.ErrNotFound) {
				return r, err
			}
		}
		return &old, old.strip()
	})
	return err
}

// applyAll adds to r what the state says about it, and what the published result already
// held but the state no longer remembers.
func (a *aggregator) applyAll(ctx context.Context, r *result, s *state) error {
	var changes []change
	held := map[string]bool{}
	if p := s.published; p != nil {
		for _, c := range append(p.Enrichments, p.Verdicts...) {
			// What is remembered as something else has been replayed with other content.
			now, remembered := s.about.Changes[c.FileID]
			if !remembered || c.sum() == now.Sum {
				changes = append(changes, c)
				held[c.FileID] = true
			}
		}
	}
	for id, now := range s.about.Changes {
		if held[id] {
			continue
		}
		var from result
		if err := a.get(ctx, now.Ref, &from); err != nil {
			return err
		}
		if from.Change == nil || from.Change.FileID != id {
			return fault.New(contract.ReasonMalformed, fmt.Sprintf("%s says nothing about another document", now.Ref))
		}
		changes = append(changes, *from.Change)
	}
	return r.apply(changes)
}

// sum is the sha256 of a change as JSON.
func (c *change) sum() string {
	value, err := codec.Marshal(c)
	if err != nil {
		return ""
	}
	return doc.Sum(value)
}
