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
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
)

// tries bounds how often a compare-and-set, or a rewrite of a result, is begun anew.
const tries = 32

// errContended is returned where others kept changing the same; it may work later.
var errContended = errors.New("others keep changing it")

// join is the fan-in of one search. It holds references, never bodies.
type join struct {
	Sources  []string         `json:"sources"` // who was asked
	Answers  map[string]reply `json:"answers"` // by source
	ClosedBy string           `json:"closed_by,omitzero"`
	Replay   int              `json:"replay"`
}

// reply is an answer without its jobs.
type reply struct {
	Status doc.SourceStatus `json:"status"`
	Jobs   int              `json:"jobs"`
	Error  string           `json:"error,omitzero"`
	Ref    *store.Ref       `json:"ref,omitzero"`  // where the jobs are, if there are any
	Raw    *store.Ref       `json:"raw,omitzero"`  // what the source sent
	Late   bool             `json:"late,omitzero"` // came after the join was closed
	// Stale is an answer of a lower replay count. It stands until the source answers again.
	Stale bool `json:"stale,omitzero"`
}

// replyBody is the object that holds the jobs of an answer.
type replyBody struct {
	Source string           `json:"source"`
	Jobs   []doc.JobPosting `json:"jobs"`
}

func (j *join) complete() bool {
	for _, s := range j.Sources {
		if r, ok := j.Answers[s]; !ok || r.Stale {
			return false
		}
	}
	return true
}

// reports says how each source answered. Without late, answers that came after the join was
// closed do not count.
func (j *join) reports(late bool) []doc.SourceReport {
	var out []doc.SourceReport
	for _, s := range j.Sources {
		r, ok := j.Answers[s]
		if !ok || (r.Late && !late) {
			out = append(out, doc.SourceReport{Source: s, Status: doc.SourceTimeout, Error: "no answer before the deadline"})
			continue
		}
		out = append(out, doc.SourceReport{Source: s, Status: r.Status, Jobs: r.Jobs, Error: r.Error})
	}
	return out
}

// outcomeOf says what a search came to: degraded where nobody answered and there is no job.
func outcomeOf(reports []doc.SourceReport) contract.Outcome {
	for _, r := range reports {
		if r.Status == doc.SourceOK || r.Jobs > 0 {
			return contract.OutcomeJobs
		}
	}
	return contract.OutcomeDegraded
}

// changeJoin applies f to the join of in until nobody else changed it meanwhile, and returns it as
// it stands then, with its revision. The join of a higher replay count begins anew; that
// of a lower one is nil: its messages mean nothing any more. f returns false to leave it.
func (a *aggregator) changeJoin(ctx context.Context, in *doc.Document, f func(j *join) (bool, error)) (*join, error) {
	kv, err := a.joins.KV(ctx)
	if err != nil {
		return nil, err
	}
	id := in.Metadata.FileID
	for range tries {
		j, rev, err := a.readJoin(ctx, kv, id)
		if err != nil {
			return nil, err
		}
		if j != nil && in.Replay < j.Replay {
			return nil, nil
		}
		if j == nil {
			j = &join{Sources: in.Routing.Sources, Replay: in.Replay}
		}
		if j.Answers == nil {
			j.Answers = map[string]reply{}
		}
		if in.Replay > j.Replay {
			j.Sources, j.Replay, j.ClosedBy = in.Routing.Sources, in.Replay, ""
			for s, r := range j.Answers {
				r.Late, r.Stale = false, true
				j.Answers[s] = r
			}
		}
		changed, err := f(j)
		if err != nil || !changed {
			return j, err
		}
		done, err := swap(ctx, kv, id, j, rev, a.cfg.JoinTTL)
		if err != nil {
			return nil, fmt.Errorf("change join %s: %w", id, err)
		}
		if done {
			return j, nil
		}
	}
	return nil, fmt.Errorf("change join %s: %w", id, errContended)
}

// readJoin returns nil and revision 0 where there is no join.
func (a *aggregator) readJoin(ctx context.Context, kv bus.KV, id string) (*join, uint64, error) {
	var j join
	rev, err := read(ctx, kv, id, &j)
	if err != nil {
		return nil, 0, fmt.Errorf("read join %s: %w", id, err)
	}
	if rev == 0 {
		return nil, 0, nil
	}
	return &j, rev, nil
}

// read reads a JSON value; revision 0 means that there is none.
func read(ctx context.Context, kv bus.KV, key string, v any) (uint64, error) {
	e, err := kv.Get(ctx, key)
	if errors.Is(err, bus.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return e.Revision, codec.Unmarshal(e.Value, v)
}

// swap writes v where the revision still is rev, and reports whether it was.
func swap(ctx context.Context, kv bus.KV, key string, v any, rev uint64, ttl time.Duration) (bool, error) {
	value, err := codec.Marshal(v)
	if err != nil {
		return false, err
	}
	if rev == 0 {
		_, err = kv.Create(ctx, key, value, ttl)
	} else {
		_, err = kv.Update(ctx, key, value, rev, ttl)
	}
	if errors.Is(err, bus.ErrExists) || errors.Is(err, bus.ErrRevision) {
		return false, nil
	}
	if errors.Is(err, bus.ErrFull) { // until some of it has left, the document is held
		return false, fault.Down(err)
	}
	return err == nil, err
}

// answer enters the answer of a source. The one that completes the join closes it and makes
// the result; one that comes after that only changes the result object.
func (a *aggregator) answer(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
	if in.Routing == nil || in.Answer.Source != in.Source || !contains(in.Routing.Sources, in.Source) {
		return nil, fault.New(contract.ReasonMalformed, fmt.Sprintf("an answer of source %q, which was not asked", in.Source))
	}
	known := map[string][]doc.JobPosting{}
	j, err := a.changeJoin(ctx, in, func(j *join) (bool, error) {
		if r, ok := j.Answers[in.Source]; ok && !r.Stale {
			return false, nil
		}
		r, err := a.keep(ctx, in, known)
		if err != nil {
			return false, err
		}
		r.Late = j.ClosedBy != ""
		j.Answers[in.Source] = r
		if !r.Late && j.complete() {
			j.ClosedBy = in.WorkID()
		}
		return true, nil
	})
	switch {
	case err != nil || j == nil:
		return nil, err
	case j.ClosedBy == in.WorkID():
		return a.closed(ctx, in, known)
	case j.Answers[in.Source].Late:
		_, err := a.writeJoined(ctx, in, known)
		return nil, err
	case in.Replay > 0 && a.now().UnixMilli() >= in.Routing.Deadline:
		// Only this answer may have been replayed: nobody else comes, nor a deadline.
		timer := in.Next()
		timer.Source, timer.Answer, timer.Timer = "", nil, contract.TimerJoin
		return []stage.Output{{To: contract.Aggregate, Doc: timer, At: time.UnixMilli(in.Routing.Deadline)}}, nil
	default:
		return nil, nil
	}
}

// keep stores the jobs of an answer, once, before they are entered anywhere.
func (a *aggregator) keep(ctx context.Context, in *doc.Document, known map[string][]doc.JobPosting) (reply, error) {
	r := reply{Status: in.Answer.Status, Jobs: len(in.Answer.Jobs), Error: in.Answer.Error, Raw: in.Answer.Raw}
	if r.Jobs == 0 {
		return r, nil
	}
	r.Ref = &store.Ref{
		Bucket: contract.BucketProcessed,
		Key:    fmt.Sprintf("%s%s/answer-%s-r%d.json", contract.ClaimPrefix, in.Metadata.FileID, in.Source, in.Replay),
	}
	if _, stored := known[in.Source]; stored {
		return r, nil
	}
	body, err := codec.Marshal(replyBody{Source: in.Source, Jobs: in.Answer.Jobs})
	if err != nil {
		return reply{}, fault.Permanently(contract.ReasonMalformed, fmt.Errorf("write answer: %w", err))
	}
	if err := a.put(ctx, *r.Ref, body); err != nil {
		return reply{}, err
	}
	known[in.Source] = in.Answer.Jobs
	return r, nil
}

// deadline closes a join that is still open with what is there.
func (a *aggregator) deadline(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
	if in.Routing == nil || len(in.Routing.Sources) == 0 {
		return nil, fault.New(contract.ReasonMalformed, "a join deadline without sources")
	}
	j, err := a.changeJoin(ctx, in, func(j *join) (bool, error) {
		if j.ClosedBy != "" {
			return false, nil
		}
		j.ClosedBy = in.WorkID()
		return true, nil
	})
	if err != nil || j == nil || j.ClosedBy != in.WorkID() {
		return nil, err
	}
	return a.closed(ctx, in, nil)
}

// closed makes the result of a join that in has closed, and its outputs. The record tells
// what was there when it was closed; later answers change the result object only.
func (a *aggregator) closed(ctx context.Context, in *doc.Document, known map[string][]doc.JobPosting) ([]stage.Output, error) {
	w, err := a.writeJoined(ctx, in, known)
	if err != nil {
		return nil, err
	}
	o := doc.Outcome{Sources: w.join.reports(false)}
	o.Outcome = outcomeOf(o.Sources)
	for _, s := range w.join.Sources {
		if r := w.join.Answers[s]; r.Raw != nil && !r.Late {
			o.Objects = append(o.Objects, *r.Raw)
		}
	}
	return outputs(in, w.result, o)
}
