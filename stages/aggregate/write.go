package aggregate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

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
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		s.join, s.joinRev, err = a.readJoin(ctx, kv, fileID)
		return err
	})
	g.Go(func() (err error) {
		if s.aboutRev, err = read(ctx, kv, aboutKey(fileID), &s.about); err != nil {
			err = fmt.Errorf("read what is said about %s: %w", fileID, err)
		}
		return err
	})
	return s, g.Wait()
}

// draft is a result as the state of its document makes it, which may have changed meanwhile.
// It is not stored.
type draft struct {
	*aggregator

	fileID string
	kv     bus.KV
	base   func(context.Context, *state) (*result, error)
	state  *state
	result *result
	body   []byte
}

// draft makes a result out of the state of its document with base, and adds all that others
// say about it.
func (a *aggregator) draft(ctx context.Context, fileID string, base func(context.Context, *state) (*result, error)) (*draft, error) {
	kv, err := a.joins.KV(ctx)
	if err != nil {
		return nil, err
	}
	d := &draft{aggregator: a, fileID: fileID, kv: kv, base: base}
	if d.state, err = a.look(ctx, kv, fileID); err != nil {
		return nil, err
	}
	return d, d.make(ctx)
}

// make makes the result out of the state.
func (d *draft) make(ctx context.Context) (err error) {
	if d.result, err = d.base(ctx, d.state); err != nil {
		return err
	}
	if err := d.applyAll(ctx, d.result, d.state); err != nil {
		return err
	}
	d.body, err = d.result.encode()
	return err
}

// store stores the result and confirms it. Results are stored this way only, or beside
// publishing and then confirmed.
func (d *draft) store(ctx context.Context) error {
	if err := d.put(ctx, d.result.ref(), d.body); err != nil {
		return err
	}
	return d.confirm(ctx)
}

// confirm is called when the result is stored. Where the state has changed meanwhile it
// makes and stores it again: whoever changes the state writes after that, so that the last
// write holds everything.
func (d *draft) confirm(ctx context.Context) error {
	for range tries {
		after, err := d.look(ctx, d.kv, d.fileID)
		if err != nil {
			return err
		}
		if after.joinRev == d.state.joinRev && after.aboutRev == d.state.aboutRev {
			return nil
		}
		d.state = after
		if err := d.make(ctx); err != nil {
			return err
		}
		if err := d.put(ctx, d.result.ref(), d.body); err != nil {
			return err
		}
	}
	return fmt.Errorf("write result of %s: %w", d.fileID, errContended)
}

// write makes a result and stores it.
func (a *aggregator) write(ctx context.Context, fileID string, base func(context.Context, *state) (*result, error)) (*result, error) {
	d, err := a.draft(ctx, fileID, base)
	if err != nil {
		return nil, err
	}
	err = d.store(ctx)
	return d.result, err
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
