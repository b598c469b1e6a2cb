package ingest

import (
	"fmt"
	"strings"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/fault"
)

// isResponse reports whether an object is a response of a provider whose shape is known, or
// a provider's error.
func isResponse(top members) bool { return isOpenAI(top) || isAnthropic(top) || isError(top) }

// isOpenAI knows a chat completion (also of those who copy the shape) by its choices.
func isOpenAI(top members) bool {
	v, ok := top["choices"]
	return ok && codec.KindOf(v) == '['
}

// isAnthropic knows a message by its type and its content blocks.
func isAnthropic(top members) bool {
	return str(top["type"]) == "message" && len(top["content"]) > 0 && codec.KindOf(top["content"]) == '['
}

// isError knows the error body that providers share: an object named error beside nothing
// that could be an answer.
func isError(top members) bool {
	v, ok := top["error"]
	return ok && codec.KindOf(v) == '{' && len(top) <= 3 && len(top["content"]) == 0
}

func str(v codec.Value) string {
	var s string
	if len(v) == 0 || codec.KindOf(v) != '"' || codec.Unmarshal(v, &s) != nil {
		return ""
	}
	return s
}

// unwrap takes the model's output out of a provider's response; anything else is content
// as it is.
func (r *reading) unwrap(top members, whole codec.Value) {
	switch {
	case isOpenAI(top):
		r.openAI(whole)
	case isAnthropic(top):
		r.anthropic(whole)
	case isError(top):
		r.err = fault.New(contract.ReasonRejected, fmt.Sprintf("the provider answered with an error: %.300s", errorText(top["error"])))
	default:
		r.content = whole
	}
}

func errorText(v codec.Value) string {
	var e struct {
		Message string `json:"message"`
		Type    string `json:"type"`
	}
	if codec.Unmarshal(v, &e) != nil {
		return "of unknown form"
	}
	return strings.TrimSpace(e.Type + " " + e.Message)
}

// chatCompletion is OpenAI's response, as far as it is read.
type chatCompletion struct {
	Model   string `json:"model"`
	Choices []struct {
		FinishReason codec.Value `json:"finish_reason"`
		Message      struct {
			Content   codec.Value `json:"content"`
			Refusal   codec.Value `json:"refusal"`
			ToolCalls []struct {
				Function struct {
					Arguments codec.Value `json:"arguments"`
				} `json:"function"`
			} `json:"tool_calls"`
		} `json:"message"`
	} `json:"choices"`
}

func (r *reading) openAI(whole codec.Value) {
	var c chatCompletion
	if err := codec.Unmarshal(whole, &c); err != nil {
		r.err = fault.Permanently(contract.ReasonMalformed, fmt.Errorf("read chat completion: %w", err))
		return
	}
	var outputs []codec.Value
	refusal := ""
	for _, choice := range c.Choices {
		if r.meta.StopReason == "" {
			r.meta.StopReason = str(choice.FinishReason)
		}
		if refusal == "" {
			refusal = str(choice.Message.Refusal)
		}
		for _, call := range choice.Message.ToolCalls {
			outputs = append(outputs, call.Function.Arguments)
		}
		if len(choice.Message.ToolCalls) == 0 {
			outputs = append(outputs, parts(choice.Message.Content))
		}
	}
	r.finish(c.Model, outputs, refusal)
}

// parts returns the text of a message's content, which is a string or a list of parts.
func parts(v codec.Value) codec.Value {
	if len(v) == 0 || codec.KindOf(v) != '[' {
		return v
	}
	var list []struct {
		Text string `json:"text"`
	}
	if codec.Unmarshal(v, &list) != nil {
		return nil
	}
	var b strings.Builder
	for _, p := range list {
		b.WriteString(p.Text)
	}
	s, err := codec.String(b.String())
	if err != nil {
		return nil
	}
	return s
}

// anthropicMessage is Anthropic's response, as far as it is read.
type anthropicMessage struct {
	Model      string      `json:"model"`
	StopReason codec.Value `json:"stop_reason"`
	Content    []struct {
		Type  string      `json:"type"`
		Text  string      `json:"text"`
		Input codec.Value `json:"input"`
	} `json:"content"`
}

func (r *reading) anthropic(whole codec.Value) {
	var m anthropicMessage
	if err := codec.Unmarshal(whole, &m); err != nil {
		r.err = fault.Permanently(contract.ReasonMalformed, fmt.Errorf("read message: %w", err))
		return
	}
	r.meta.StopReason = str(m.StopReason)
	var outputs []codec.Value
	var texts strings.Builder
	for _, block := range m.Content {
		switch block.Type {
		case "tool_use":
			outputs = append(outputs, block.Input)
		case "text":
			texts.WriteString(block.Text)
		}
	}
	refusal := ""
	if r.meta.StopReason == "refusal" {
		refusal = texts.String()
	}
	if len(outputs) == 0 && texts.Len() > 0 {
		if s, err := codec.String(texts.String()); err == nil {
			outputs = append(outputs, s)
		}
	}
	r.finish(m.Model, outputs, refusal)
}

// finish makes the content of what a model wrote: one output stands for itself, several
// become a list.
func (r *reading) finish(model string, outputs []codec.Value, refusal string) {
	if r.meta.ModelName == "" {
		r.meta.ModelName = model
	}
	kept := outputs[:0]
	for _, o := range outputs {
		if len(o) > 0 && codec.KindOf(o) != 'n' && strings.TrimSpace(str(o)) != "" || len(o) > 0 && codec.KindOf(o) == '{' {
			kept = append(kept, o)
		}
	}
	switch {
	case refusal != "":
		r.err = fault.New(contract.ReasonRejected, "the model refused to answer")
	case len(kept) == 0:
		r.err = fault.New(contract.ReasonRejected, "the response holds no output of the model")
	case len(kept) == 1:
		r.content = kept[0]
	default:
		r.several(kept)
	}
}

// several makes one list of several outputs; text that is JSON stands there as JSON.
func (r *reading) several(outputs []codec.Value) {
	list := make([]codec.Value, len(outputs))
	for i, o := range outputs {
		list[i] = o
		if s := str(o); s != "" && codec.Check([]byte(s), codec.DefaultDepth) == nil {
			list[i] = codec.Value(s)
		}
	}
	v, err := codec.Marshal(list)
	if err != nil {
		r.err = fault.Permanently(contract.ReasonMalformed, fmt.Errorf("join the outputs of the model: %w", err))
		return
	}
	r.content = v
	r.flag("the response holds %d outputs", len(outputs))
}
