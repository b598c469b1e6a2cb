package stagetest

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
)

// maxShown is the longest object body, in bytes, that a golden file holds as it is; of a
// longer one it holds the sha256.
const maxShown = 2048

// sameBody stands for the body of an object that is the output's envelope.
const sameBody = "the envelope"

type output struct {
	To       string        `json:"to,omitzero"`
	Subject  string        `json:"subject,omitzero"`
	Terminal bool          `json:"terminal,omitzero"`
	At       string        `json:"at,omitzero"`
	Lane     string        `json:"lane,omitzero"`
	Name     string        `json:"name,omitzero"`
	Source   string        `json:"source,omitzero"`
	Timer    string        `json:"timer,omitzero"`
	Object   string        `json:"object,omitzero"`
	Attempt  int           `json:"attempt,omitzero"`
	Replay   int           `json:"replay,omitzero"`
	Body     codec.Value   `json:"body,omitzero"`
	Envelope *doc.Envelope `json:"envelope,omitzero"`
	Objects  []object      `json:"objects,omitzero"`
}

type object struct {
	Ref        string            `json:"ref"`
	Meta       map[string]string `json:"meta,omitzero"`
	CreateOnly bool              `json:"create_only,omitzero"`
	Body       codec.Value       `json:"body,omitzero"`
	SHA256     string            `json:"sha256,omitzero"`
}

// Render writes outputs as a golden file has them: indented JSON, in their order, nothing
// left out but what is empty.
func Render(outs []stage.Output) ([]byte, error) {
	list := make([]output, 0, len(outs))
	for i := range outs {
		o, err := renderOutput(&outs[i])
		if err != nil {
			return nil, fmt.Errorf("render output %d: %w", i, err)
		}
		list = append(list, o)
	}
	text, err := codec.MarshalIndent(list)
	if err != nil {
		return nil, fmt.Errorf("render outputs: %w", err)
	}
	return append(text, '\n'), nil
}

func renderOutput(o *stage.Output) (output, error) {
	r := output{To: string(o.To), Subject: o.Subject, Terminal: o.Terminal}
	if !o.At.IsZero() {
		r.At = o.At.UTC().Format("2006-01-02T15:04:05.999999999Z07:00")
	}
	var err error
	if r.Body, err = shown(o.Body); err != nil {
		return output{}, err
	}
	var envelope []byte
	objects := o.Objects
	if d := o.Doc; d != nil {
		r.Lane, r.Name, r.Source, r.Timer = string(d.Lane), d.Name, d.Source, d.Timer
		r.Object, r.Attempt, r.Replay, r.Envelope = d.Object, d.Attempt, d.Replay, &d.Envelope
		if envelope, err = d.Encode(); err != nil {
			return output{}, err
		}
		objects = append(slices.Clip(objects), d.Objects...)
	}
	for i := range objects {
		ob, err := renderObject(&objects[i], envelope)
		if err != nil {
			return output{}, err
		}
		r.Objects = append(r.Objects, ob)
	}
	return r, nil
}

func renderObject(o *store.Object, envelope []byte) (object, error) {
	r := object{Ref: o.String(), Meta: o.Meta, CreateOnly: o.CreateOnly}
	var err error
	switch {
	case envelope != nil && bytes.Equal(o.Body, envelope):
		r.Body, err = codec.String(sameBody)
	case len(o.Body) > maxShown:
		r.SHA256 = doc.Sum(o.Body)
	default:
		r.Body, err = shown(o.Body)
	}
	return r, err
}

// shown returns a body as JSON: as it is where it is JSON, else as a string, else as its sum.
func shown(body []byte) (codec.Value, error) {
	switch {
	case len(body) == 0:
		return nil, nil
	case codec.Check(body, codec.DefaultDepth) == nil:
		return codec.Value(body), nil
	}
	if v, err := codec.String(string(body)); err == nil {
		return v, nil
	}
	return codec.String("sha256:" + doc.Sum(body))
}

func renderError(err error) []byte {
	v := fault.Of(err)
	kinds := map[fault.Kind]string{
		fault.Transient: "transient", fault.Permanent: "permanent",
		fault.Waiting: "waiting", fault.Unavailable: "unavailable",
	}
	text := fmt.Sprintf("kind: %s\n", kinds[v.Kind])
	if v.Reason != "" {
		text += fmt.Sprintf("reason: %s\n", v.Reason)
	}
	if v.After > 0 {
		text += fmt.Sprintf("after: %s\n", v.After)
	}
	return []byte(text + fmt.Sprintf("text: %s\n", err))
}
