package validate

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schema is one compiled JSON Schema.
type schema struct {
	name     string // such as job_extraction/1
	compiled *jsonschema.Schema
}

// sealed is a loader that finds nothing: a schema may only refer to those given to the
// compiler, never to a file or to the network.
type sealed struct{}

func (sealed) Load(url string) (any, error) {
	return nil, fmt.Errorf("schema %q is not among the embedded ones, and no other is loaded", url)
}

// compile compiles the named schemas, which lie in files as <name>.json.
func compile(files fs.FS, names []string) (map[string]*schema, error) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(sealed{})
	for _, name := range names {
		text, err := fs.ReadFile(files, name+".json")
		if err != nil {
			return nil, fmt.Errorf("read schema %q: %w", name, err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("read schema %q: %w", name, err)
		}
		if err := c.AddResource(location(name), value); err != nil {
			return nil, fmt.Errorf("add schema %q: %w", name, err)
		}
	}
	out := make(map[string]*schema, len(names))
	for _, name := range names {
		compiled, err := c.Compile(location(name))
		if err != nil {
			return nil, fmt.Errorf("compile schema %q: %w", name, err)
		}
		out[name] = &schema{name: name, compiled: compiled}
	}
	return out, nil
}

// location is the name under which the compiler knows a schema.
func location(name string) string { return "millrace:///" + name + ".json" }

// check holds a JSON value against the schema. The error is a *SchemaError that keeps at
// most most violations, or what kept the check from being made.
func (s *schema) check(content []byte, most int) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("read content for schema %s: %w", s.name, err)
	}
	err = s.compiled.Validate(value)
	if err == nil {
		return nil
	}
	found, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return fmt.Errorf("hold content against schema %s: %w", s.name, err)
	}
	return newSchemaError(s.name, found, most)
}
