package policy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/jobspy/millrace/shared/codec"
)

// maxProblem is the longest text of one violation, in bytes: a value may stand in it.
const maxProblem = 300

// Violation is one thing that is wrong with a value.
type Violation struct {
	Field   string `json:"field"` // JSON Pointer; empty for the value as a whole
	Problem string `json:"problem"`
}

// String returns the field and the problem.
func (v Violation) String() string {
	return cmp.Or(v.Field, "the value") + ": " + v.Problem
}

// RefusedError says that a value does not take effect, and everything that is wrong with it.
type RefusedError struct {
	Key        string
	Violations []Violation
}

// Error lists the violations.
func (e *RefusedError) Error() string {
	texts := make([]string, len(e.Violations))
	for i, v := range e.Violations {
		texts[i] = v.String()
	}
	return fmt.Sprintf("the %s policy is refused: %s", e.Key, strings.Join(texts, "; "))
}

// check holds the value of a key against its schema.
func check(key string, schema, text []byte) error {
	refuse := func(found ...Violation) error { return &RefusedError{Key: key, Violations: found} }
	// The schema library takes the second of two equal names; we take neither.
	if err := codec.Check(text, codec.DefaultDepth); err != nil {
		return refuse(Violation{Problem: err.Error()})
	}
	compiled, err := compile(key, schema)
	if err != nil {
		return fmt.Errorf("read the schema of %s: %w", key, err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return refuse(Violation{Problem: err.Error()})
	}
	err = compiled.Validate(value)
	wrong, ok := errors.AsType[*jsonschema.ValidationError](err)
	switch {
	case err == nil:
		return nil
	case !ok:
		return refuse(Violation{Problem: err.Error()})
	default:
		return refuse(violations(wrong)...)
	}
}

// sealed is a loader that finds nothing: a schema refers to itself at most.
type sealed struct{}

func (sealed) Load(url string) (any, error) { return nil, fmt.Errorf("%q is not loaded", url) }

func compile(key string, schema []byte) (*jsonschema.Schema, error) {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(sealed{})
	location := "millrace:///" + key
	if err := c.AddResource(location, value); err != nil {
		return nil, err
	}
	return c.Compile(location)
}

// violations returns the causes of err that have no causes themselves, by field.
func violations(err *jsonschema.ValidationError) []Violation {
	var found []Violation
	p := message.NewPrinter(language.English)
	var gather func(*jsonschema.ValidationError)
	gather = func(e *jsonschema.ValidationError) {
		for _, cause := range e.Causes {
			gather(cause)
		}
		if len(e.Causes) > 0 {
			return
		}
		problem := e.ErrorKind.LocalizedString(p)
		if len(problem) > maxProblem {
			problem = strings.ToValidUTF8(problem[:maxProblem], "") + "…"
		}
		found = append(found, Violation{pointer(e.InstanceLocation), problem})
	}
	gather(err)
	slices.SortFunc(found, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Problem, b.Problem))
	})
	return slices.Compact(found)
}

func pointer(tokens []string) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(t))
	}
	return b.String()
}
