// Package standardize is the stage that gives content of every task one canonical shape, for
// jobs with the property names of schema.org/JobPosting. What the text says and what is made
// of it stand side by side; nothing is guessed, and the content is left as it is. The core is
// pure: the same document gives the same bytes.
package standardize

import (
	"context"
	"fmt"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
)

// standardizer is the core. It holds only what New made and may be used concurrently.
type standardizer struct {
	cfg Config
}

// New returns the stage's handler.
func New(_ context.Context, cfg Config, _ stage.Deps) (stage.Handler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("check configuration: %w", err)
	}
	return &standardizer{cfg: cfg}, nil
}

// Handle adds the canonical shape of one document and passes it to route. Content that is
// not of its task's form is a permanent error, a cancelled ctx a transient one.
func (s *standardizer) Handle(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
	standard, err := s.standard(ctx, &in.Envelope)
	if err != nil {
		return nil, err
	}
	out := in.Next()
	out.Metadata.ProcessingStatus = contract.StatusStandardized
	out.Standard = standard
	body, err := out.Encode()
	if err != nil {
		return nil, fault.Permanently(contract.ReasonMalformed, err)
	}
	objects := out.Views(contract.ClassStandardized, body)
	return []stage.Output{{To: contract.Route, Doc: out, Objects: objects}}, nil
}

func (s *standardizer) standard(ctx context.Context, e *doc.Envelope) (*doc.Standard, error) {
	task := contract.Task(e.Metadata.TaskType)
	if !task.Valid() {
		return nil, fault.New(contract.ReasonUnroutable, fmt.Sprintf("task type %q is not known", e.Metadata.TaskType))
	}
	content, err := open(e.Content, "content")
	if err != nil {
		return nil, err
	}
	switch task {
	case contract.IntentAnalysis:
		return s.intent(content)
	case contract.JobExtraction:
		jobs, err := s.jobs(ctx, e, content)
		return &doc.Standard{Jobs: jobs}, err
	case contract.DataEnrichment:
		t, err := target(content)
		return &doc.Standard{Target: t, Facts: content["facts"]}, err
	default: // quality validation, the last of the valid ones
		t, err := target(content)
		return &doc.Standard{Target: t, Review: verdict(content)}, err
	}
}

func (s *standardizer) intent(content members) (*doc.Standard, error) {
	m, err := open(content["intent"], "content.intent")
	if err != nil {
		return nil, err
	}
	var related bool
	if err := codec.Unmarshal(m["is_job_related"], &related); err != nil {
		return nil, fault.Permanently(contract.ReasonSchema, fmt.Errorf("read is_job_related: %w", err))
	}
	return &doc.Standard{Intent: &doc.Intent{
		IsJobRelated: related, Confidence: m.number("confidence"), JobTitle: m.text("job_title"),
		Location: locationText(m["location"]), Skills: skills(m["skills"], s.cfg.MaxSkills),
		ExperienceLevel: m.text("experience_level"),
	}}, nil
}

func target(content members) (*doc.Target, error) {
	m, err := open(content["target"], "content.target")
	if err != nil {
		return nil, err
	}
	return &doc.Target{FileID: m.text("file_id"), JobID: m.text("job_id")}, nil
}

func verdict(content members) *doc.Verdict {
	return &doc.Verdict{Verdict: content.text("verdict"), Score: content.number("score"), Issues: content.value("issues")}
}
