package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
)

// KeyState is the key of the archive's state in LLM_JOIN. A dot stands in no file_id, which
// have keys in the same bucket.
const KeyState = "archive.daily"

// State is how far the archive has come. What is missing follows from it.
type State struct {
	LastSeq uint64    `json:"last_seq"`         // the last record that is in a daily volume
	LastAt  time.Time `json:"last_at,omitzero"` // its time, by which its stream is recognised
	// Epoch counts how often the stream of records was seen to begin anew, which is when
	// sequences say nothing about earlier parts.
	Epoch int `json:"epoch,omitzero"`
	// Waiting is what waits after LastSeq for its part to be full or its day to be over.
	Waiting Waiting `json:"waiting,omitzero"`
	// Touched are the weeks and months that have daily parts which may not be in them yet, as
	// String gives them, sorted.
	Touched []string `json:"touched,omitzero"`
	// Known says that Touched has been kept since the archive's beginning, or that all daily
	// volumes were looked through when it was introduced.
	Known bool `json:"known,omitzero"`
}

// Waiting is how much waits for a part.
type Waiting struct {
	Seq       uint64 `json:"seq"` // the last record that was counted
	Day       string `json:"day"` // of the records
	Documents int    `json:"documents"`
	// Bytes of lines: as they were measured when the part was last filled, and estimated for
	// what came since. They only say when filling the part is worth another try.
	Bytes int64 `json:"bytes"`
}

// Touch notes that a day has new parts.
func (s *State) Touch(day Period) {
	for _, p := range []Period{Week(day.Start), Month(day.Start)} {
		if i, found := slices.BinarySearch(s.Touched, p.String()); !found {
			s.Touched = slices.Insert(slices.Clone(s.Touched), i, p.String())
		}
	}
}

// Settle notes that a week or month holds all that its days do.
func (s *State) Settle(p Period) {
	s.Touched = slices.DeleteFunc(slices.Clone(s.Touched), func(t string) bool { return t == p.String() })
}

// Pending returns the weeks and months that may lack daily parts, in the order of Touched.
// What is no period is left out.
func (s *State) Pending() []Period {
	var out []Period
	for _, t := range s.Touched {
		if p, _, ok := periodOf(t + "/" + manifestName); ok {
			out = append(out, p)
		}
	}
	return out
}

// ReadState reads the archive's state and its revision, which is 0 where there is none yet.
func ReadState(ctx context.Context, kv bus.KV) (State, uint64, error) {
	var s State
	e, err := kv.Get(ctx, KeyState)
	if errors.Is(err, bus.ErrNotFound) {
		return s, 0, nil
	}
	if err == nil {
		err = codec.Unmarshal(e.Value, &s)
	}
	if err != nil {
		return s, 0, fmt.Errorf("read the archive's state: %w", err)
	}
	return s, e.Revision, nil
}

// Write writes the state over the one of a revision and returns the new revision.
func (s *State) Write(ctx context.Context, kv bus.KV, revision uint64) (uint64, error) {
	value, err := codec.Marshal(s)
	if err == nil {
		if revision == 0 {
			revision, err = kv.Create(ctx, KeyState, value, 0)
		} else {
			revision, err = kv.Update(ctx, KeyState, value, revision, 0)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("write the archive's state: %w", err)
	}
	return revision, nil
}
