package operate

import (
	"context"
	"fmt"
	"slices"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/config"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/letters"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/stages/validate"
)

// PatchCheck holds patched documents against the schemas of their tasks, before they are sent.
// It does what the validate stage does, by the stage itself.
type PatchCheck struct{ validate stage.Handler }

// NewPatchCheck makes a check with the settings that the validate stage would have.
func NewPatchCheck(ctx context.Context, vars map[string]string) (*PatchCheck, error) {
	c, err := config.Parse[validate.Config](vars)
	if err != nil {
		return nil, err
	}
	h, err := validate.New(ctx, c, stage.Deps{})
	return &PatchCheck{h}, err
}

// schemaStages are the stages that take content in the form of its schema. Behind them it has
// the standard form.
func schemaStages() []contract.Stage {
	return []contract.Stage{contract.Ingest, contract.Validate, contract.Enrich, contract.Standardize}
}

// Check returns what is wrong with the document that a replay would send. A body that is no
// document, one without content, and one of an unknown task have no schema, so that nothing is
// wrong with them here.
func (c *PatchCheck) Check(ctx context.Context, q *letters.Queue, l *letters.Letter, r letters.Replay) error {
	to, body, err := q.Preview(ctx, l.Seq, r)
	if err != nil {
		return err
	}
	if !slices.Contains(schemaStages(), to) {
		return nil
	}
	e, ok := envelopeIn(body)
	if !ok {
		return nil
	}
	if to == contract.Ingest && contract.Task(l.Task).Valid() {
		e.Metadata.TaskType = l.Task // there the subject wins
	}
	if !contract.Task(e.Metadata.TaskType).Valid() {
		return nil
	}
	if _, err := c.validate.Handle(ctx, &doc.Document{Envelope: e}); err != nil {
		return fmt.Errorf("patched, it would be refused: %w", err)
	}
	return nil
}

// envelopeIn reads an envelope with content; ok says whether body is one.
func envelopeIn(body []byte) (e doc.Envelope, ok bool) {
	var top map[string]codec.Value
	if codec.Unmarshal(body, &top) != nil || codec.KindOf(top["metadata"]) != '{' {
		return e, false
	}
	e, err := doc.Decode(body)
	return e, err == nil && len(e.Content) > 0
}
