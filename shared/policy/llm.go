package policy

import (
	"fmt"

	"github.com/jobspy/millrace/deploy/config"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
)

// KeyLLM is the key of LLM in LLM_CONFIG.
const KeyLLM = "llm"

// LLM says what becomes of a model's answer that is not as it should be. Slices and maps are
// not changed once it is made.
type LLM struct {
	// Default counts for what Tasks does not name of a task type.
	Default Answers                   `json:"default"`
	Tasks   map[contract.Task]Answers `json:"tasks"`
	Reask   Reask                     `json:"reask"`
}

// Answers is the policy on the answers of one task type. An empty field is not named.
type Answers struct {
	// Repairs are the classes of repairs that are accepted; an answer that needs another one
	// is dealt with as Repair says.
	Repairs []string `json:"repairs,omitzero"`
	Repair  Verdict  `json:"repair,omitzero"`  // needs a repair of a class that is not accepted
	Partial Verdict  `json:"partial,omitzero"` // was cut off and completed
	Broken  Verdict  `json:"broken,omitzero"`  // is no JSON and cannot be repaired
	Unfit   Verdict  `json:"unfit,omitzero"`   // does not fit its schema
	// Review and Again are confidences, 0 to 1, below which an answer is reviewed or asked for
	// again.
	Review *float64 `json:"review_below,omitzero"`
	Again  *float64 `json:"reask_below,omitzero"`
}

// Verdict is what becomes of an answer.
type Verdict string

// The verdicts.
const (
	VerdictAccept Verdict = "accept" // goes on
	VerdictReview Verdict = "review" // goes on, and is shown to people
	// VerdictReask goes back to the model. Where nobody asks, or that was done often enough, it
	// is a review of what fits its schema, and a dead letter of what does not.
	VerdictReask      Verdict = "reask"
	VerdictDeadLetter Verdict = "dead_letter"
)

// Reask says how often and at which cost models are asked again. It is off until somebody
// answers llm.reask.>.
type Reask struct {
	Enabled bool `json:"enabled"`
	// Attempts is how often the same question goes back to a model at most, 1 or 2.
	Attempts int `json:"attempts"`
	// Tokens is how many tokens the answers so far may have used up at most; what is not known
	// counts as none.
	Tokens int64 `json:"tokens"`
}

// SeedLLM returns the policy as it is before anybody has changed it.
func SeedLLM() LLM {
	var p LLM
	if err := codec.Unmarshal(config.LLM(), &p); err != nil {
		// It is part of the program, and a test reads it.
		panic(fmt.Sprintf("read llm_config.json: %v", err))
	}
	return p
}

// Key implements Policy.
func (LLM) Key() string { return KeyLLM }

// Parse implements Policy.
func (p LLM) Parse(text []byte) (LLM, error) {
	if err := check(KeyLLM, config.LLMSchema(), text); err != nil {
		return LLM{}, err
	}
	seed := p
	p.Tasks, p.Default = nil, Answers{}
	if err := codec.Unmarshal(text, &p); err != nil {
		return LLM{}, &RefusedError{Key: KeyLLM, Violations: []Violation{{Problem: err.Error()}}}
	}
	p.Default = p.Default.over(seed.Default)
	if p.Tasks == nil {
		p.Tasks = seed.Tasks
	}
	var found []Violation
	for _, task := range contract.Tasks() {
		if a := p.Of(task); *a.Again > *a.Review {
			found = append(found, Violation{"/tasks/" + string(task), "reask_below is over review_below, so nothing would be reviewed"})
		}
	}
	if len(found) > 0 {
		return LLM{}, &RefusedError{Key: KeyLLM, Violations: found}
	}
	return p, nil
}

// Of returns the policy on the answers of a task type, with every field.
func (p LLM) Of(task contract.Task) Answers { return p.Tasks[task].over(p.Default) }

// over returns a with what it does not name taken from d.
func (a Answers) over(d Answers) Answers {
	if a.Repairs == nil {
		a.Repairs = d.Repairs
	}
	for _, v := range []struct{ to, from *Verdict }{
		{&a.Repair, &d.Repair}, {&a.Partial, &d.Partial}, {&a.Broken, &d.Broken}, {&a.Unfit, &d.Unfit},
	} {
		if *v.to == "" {
			*v.to = *v.from
		}
	}
	if a.Review == nil {
		a.Review = d.Review
	}
	if a.Again == nil {
		a.Again = d.Again
	}
	return a
}

// Text implements Policy.
func (p LLM) Text() ([]byte, error) {
	if p.Tasks == nil {
		p.Tasks = map[contract.Task]Answers{}
	}
	b, err := codec.MarshalIndent(p)
	if err != nil {
		return nil, fmt.Errorf("write the llm policy: %w", err)
	}
	return append(b, '\n'), nil
}
