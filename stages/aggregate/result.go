package aggregate

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/store"
)

// result is the object that every completed document has under job-data/processed. Lists
// are never null. There are no timings in it.
type result struct {
	Metadata doc.Metadata       `json:"metadata"`
	Outcome  contract.Outcome   `json:"outcome"`
	Change   *change            `json:"change,omitzero"` // what an enrichment or a verdict changed elsewhere
	Jobs     []doc.JobPosting   `json:"jobs"`
	Sources  []doc.SourceReport `json:"sources"`

	// What others say about this document. Facts is all of it merged, in the order of the
	// file_ids; Verdict is the last one.
	Facts       codec.Value  `json:"facts,omitzero"`
	Verdict     *doc.Verdict `json:"verdict,omitzero"`
	Enrichments []change     `json:"enrichments"`
	Verdicts    []change     `json:"verdicts"`

	// Only in real-time answers that are too large for one message.
	Result  *store.Ref `json:"result,omitzero"`       // where all of it is
	Omitted int        `json:"jobs_omitted,omitzero"` // how many jobs are only there
}

// change is what one document says about another document or one of its jobs.
type change struct {
	FileID  string       `json:"file_id"` // who says it
	Target  doc.Target   `json:"target"`
	Facts   codec.Value  `json:"facts,omitzero"`
	Verdict *doc.Verdict `json:"verdict,omitzero"`
}

// The members of a job that hold what others say about it. A job's own members of these
// names stay in its standardized document only.
const (
	memberFacts   = "enriched"
	memberVerdict = "verdict"
)

func (r *result) ref() store.Ref { return doc.ResultRef(r.Metadata.CreatedAt, r.Metadata.FileID) }

func (r *result) encode() ([]byte, error) {
	body, err := codec.Marshal(r)
	if err != nil {
		return nil, fault.Permanently(contract.ReasonMalformed, fmt.Errorf("write result: %w", err))
	}
	return body, nil
}

// unchanged is the base of a result that is not joined.
func (r *result) unchanged(context.Context, *state) (*result, error) { return r.clone(), nil }

// clone copies r so far that applying changes to the copy leaves r as it is.
func (r *result) clone() *result {
	c := *r
	c.Jobs = slices.Clone(r.Jobs)
	return &c
}

// strip takes away all that others say, which leaves what the result was made with.
func (r *result) strip() error {
	r.Facts, r.Verdict, r.Enrichments, r.Verdicts = nil, nil, nil, nil
	for i := range r.Jobs {
		if err := dropMembers(&r.Jobs[i], memberFacts, memberVerdict); err != nil {
			return err
		}
	}
	return nil
}

// apply adds changes to a stripped result: lists them and merges them into what they are
// about. Their order does not matter.
func (r *result) apply(changes []change) error {
	slices.SortFunc(changes, func(a, b change) int { return compare(a.FileID, b.FileID) })
	facts := map[string]members{}
	verdicts := map[string]*doc.Verdict{}
	for _, c := range changes {
		if c.Verdict != nil {
			r.Verdicts = append(r.Verdicts, c)
			verdicts[c.Target.JobID] = c.Verdict
			continue
		}
		r.Enrichments = append(r.Enrichments, c)
		if facts[c.Target.JobID] == nil {
			facts[c.Target.JobID] = members{}
		}
		if err := facts[c.Target.JobID].add(c.Facts); err != nil {
			return err
		}
	}
	r.Verdict = verdicts[""]
	if f := facts[""]; len(f) > 0 {
		v, err := codec.Marshal(f)
		if err != nil {
			return fmt.Errorf("merge facts: %w", err)
		}
		r.Facts = v
	}
	for i := range r.Jobs {
		j := &r.Jobs[i]
		if err := addMembers(j, facts[j.JobID], verdicts[j.JobID]); err != nil {
			return err
		}
	}
	return nil
}

// members are the members of a JSON object.
type members map[string]codec.Value

// add takes over the members of v; later ones win. What is no object has none.
func (m members) add(v codec.Value) error {
	if codec.KindOf(v) != '{' {
		return nil
	}
	var more members
	if err := codec.Unmarshal(v, &more); err != nil {
		return fmt.Errorf("merge facts: %w", err)
	}
	maps.Copy(m, more)
	return nil
}

func addMembers(j *doc.JobPosting, facts members, verdict *doc.Verdict) error {
	if len(facts) == 0 && verdict == nil {
		return nil
	}
	extra := members{}
	if err := extra.add(j.Extra); err != nil {
		return err
	}
	if len(facts) > 0 {
		v, err := codec.Marshal(facts)
		if err != nil {
			return fmt.Errorf("merge facts: %w", err)
		}
		extra[memberFacts] = v
	}
	if verdict != nil {
		v, err := codec.Marshal(verdict)
		if err != nil {
			return fmt.Errorf("merge verdict: %w", err)
		}
		extra[memberVerdict] = v
	}
	return setExtra(j, extra)
}

func dropMembers(j *doc.JobPosting, names ...string) error {
	if len(j.Extra) == 0 {
		return nil
	}
	extra := members{}
	if err := extra.add(j.Extra); err != nil {
		return err
	}
	for _, n := range names {
		delete(extra, n)
	}
	return setExtra(j, extra)
}

// setExtra writes the members in the order of their names, so that a job that gets and
// loses members is the job it was.
func setExtra(j *doc.JobPosting, extra members) error {
	j.Extra = nil
	if len(extra) == 0 {
		return nil
	}
	v, err := codec.Marshal(extra)
	if err != nil {
		return fmt.Errorf("write job: %w", err)
	}
	j.Extra = v
	return nil
}
