// Package validate is the stage that decides whether the content of a document is what its
// task needs: strict JSON, brought into the form of the task's JSON Schema where that is
// only a matter of wrapping, and valid against it. Every change is written down in the
// document. The core is pure: the same document gives the same bytes.
package validate

import (
	"context"
	"fmt"
	"strings"

	"github.com/jobspy/millrace/schemas"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
)

// statusValid is doc.Validation.Status of a document that fits its schema.
const statusValid = "valid"

// validator is the core. It holds only what New made and may be used concurrently.
type validator struct {
	cfg     Config
	schemas map[string]*schema
}

// New returns the stage's handler, with every schema compiled.
func New(_ context.Context, cfg Config, _ stage.Deps) (stage.Handler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("check configuration: %w", err)
	}
	compiled, err := compile(schemas.Files(), schemas.Names())
	if err != nil {
		return nil, err
	}
	return &validator{cfg: cfg, schemas: compiled}, nil
}

// Handle checks one document and passes it to enrich. All its errors are permanent.
func (v *validator) Handle(_ context.Context, in *doc.Document) ([]stage.Output, error) {
	s, err := v.schemaOf(&in.Metadata)
	if err != nil {
		return nil, err
	}
	content, coercions, err := v.read(in.Content)
	if err != nil {
		return nil, err
	}
	content, more, err := coerce(contract.Task(in.Metadata.TaskType), content)
	if err != nil {
		return nil, err
	}
	if err := s.check(content, v.cfg.MaxSchemaErrors); err != nil {
		return nil, fault.Permanently(contract.ReasonSchema, err)
	}

	out := in.Next()
	out.Content = content
	out.Metadata.Schema = s.name
	out.Metadata.ProcessingStatus = contract.StatusValidated
	out.Validation = &doc.Validation{Status: statusValid, Schema: s.name, Coercions: append(coercions, more...)}
	body, err := out.Encode()
	if err != nil {
		return nil, fault.Permanently(contract.ReasonMalformed, err)
	}
	objects := out.Views(contract.ClassValidated, body)
	return []stage.Output{{To: contract.Enrich, Doc: out, Objects: objects}}, nil
}

// schemaOf returns the schema that the metadata name, by default the first version of the
// task's own.
func (v *validator) schemaOf(m *doc.Metadata) (*schema, error) {
	if !contract.Task(m.TaskType).Valid() {
		return nil, fault.New(contract.ReasonUnroutable, fmt.Sprintf("task type %s is not known", brief(m.TaskType)))
	}
	name := m.Schema
	if name == "" {
		name = m.TaskType + "/1"
	}
	s, ok := v.schemas[name]
	if !ok {
		return nil, fault.New(contract.ReasonSchema, fmt.Sprintf("schema %s is not known", brief(name)))
	}
	if task, _, _ := strings.Cut(name, "/"); task != m.TaskType {
		return nil, fault.New(contract.ReasonSchema, fmt.Sprintf("schema %s is not one of task %s", name, m.TaskType))
	}
	return s, nil
}

// read returns the content as one strictly checked JSON value. Text, which ingest leaves
// where a model's answer was text, is read as JSON, once.
func (v *validator) read(content codec.Value) (codec.Value, []string, error) {
	if len(content) == 0 {
		return nil, nil, fault.New(contract.ReasonMalformed, "the document has no content")
	}
	if codec.KindOf(content) != '"' {
		return content, nil, v.strict(content, "content")
	}
	var text string
	if err := codec.Unmarshal(content, &text); err != nil {
		return nil, nil, fault.Permanently(contract.ReasonMalformed, fmt.Errorf("read the text of content: %w", err))
	}
	if strings.TrimSpace(text) == "" {
		return nil, nil, fault.New(contract.ReasonRejected, "the text of content is empty")
	}
	if err := v.strict([]byte(text), "the text of content"); err != nil {
		if !strings.ContainsAny(text, "{[") {
			return nil, nil, fault.New(contract.ReasonRejected, "the text of content holds no JSON")
		}
		return nil, nil, err
	}
	return codec.Value(text), []string{"/content: text read as JSON"}, nil
}

// strict checks a JSON text against the limits; what says which text it is.
func (v *validator) strict(text []byte, what string) error {
	if err := codec.Check(text, v.cfg.MaxJSONDepth); err != nil {
		return fault.Permanently(contract.ReasonMalformed, fmt.Errorf("read %s as JSON: %w", what, err))
	}
	n, err := measure(text)
	if err != nil {
		return fault.Permanently(contract.ReasonMalformed, fmt.Errorf("read %s as JSON: %w", what, err))
	}
	if n > v.cfg.MaxJSONValues {
		return fault.New(contract.ReasonOversize, fmt.Sprintf("%s holds %d values, more than %d", what, n, v.cfg.MaxJSONValues))
	}
	return nil
}
