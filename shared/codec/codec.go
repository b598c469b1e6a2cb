// Package codec is the one place where JSON is read and written. It is strict: duplicate
// names, invalid UTF-8, lone surrogates and trailing data are errors that say where they
// stand. Output is deterministic.
package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Value is one JSON value as it stands in its text.
type Value = jsontext.Value

// DefaultDepth is how deeply objects and arrays may be nested unless a caller says otherwise.
const DefaultDepth = 64

// ErrTooDeep is wrapped by Check where the nesting is over the limit.
var ErrTooDeep = errors.New("nested too deeply")

// Check reads data as exactly one JSON value nested at most depth levels deep and returns
// what is wrong with it and where, as byte offset and JSON Pointer. It keeps nothing.
func Check(data []byte, depth int) error {
	d := jsontext.NewDecoder(bytes.NewReader(data))
	for {
		_, err := d.ReadToken()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("at byte %d: the JSON text ends too early", len(data))
		}
		if err != nil {
			return err
		}
		if d.StackDepth() > depth {
			return fmt.Errorf("at byte %d, over %d levels: %w", d.InputOffset(), depth, ErrTooDeep)
		}
		if d.StackDepth() == 0 {
			return trailing(data, d)
		}
	}
}

func trailing(data []byte, d *jsontext.Decoder) error {
	rest := bytes.TrimLeft(data[d.InputOffset():], " \t\r\n")
	if len(rest) > 0 {
		return fmt.Errorf("at byte %d: more text after the JSON value", len(data)-len(rest))
	}
	return nil
}

// Unmarshal reads data into v strictly. Object members that v does not name are ignored,
// unless v has a field that takes them. The error says where; where a value is of the wrong
// kind it is a FormError.
func Unmarshal(data []byte, v any) error {
	err := json.Unmarshal(data, v)
	if e, ok := errors.AsType[*json.SemanticError](err); ok {
		return &FormError{Pointer: string(e.JSONPointer), Offset: e.ByteOffset, Kind: kindName(e.JSONKind), cause: e.Err}
	}
	return err
}

// FormError says that a JSON value is valid but not of the kind that is wanted. Its text is
// the same for the same input and holds nothing of the value.
type FormError struct {
	Pointer string // JSON Pointer of the value; empty is the whole text
	Offset  int64  // bytes before the value, or before the place in it
	Kind    string // what stands there: object, array, string, number, boolean, null
	cause   error
}

// Error says what stands where.
func (e *FormError) Error() string {
	at := fmt.Sprintf("at byte %d", e.Offset)
	if e.Pointer != "" {
		at += fmt.Sprintf(", %s", e.Pointer)
	}
	return fmt.Sprintf("%s: %s is not what is wanted here", at, e.Kind)
}

// Unwrap returns why a value of the right kind was refused, if that is the case.
func (e *FormError) Unwrap() error { return e.cause }

func kindName(k jsontext.Kind) string {
	switch k {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "the value"
}

// Marshal writes v; equal values give equal bytes.
func Marshal(v any) ([]byte, error) { return json.Marshal(v, json.Deterministic(true)) }

// MarshalIndent is Marshal for people.
func MarshalIndent(v any) ([]byte, error) {
	return json.Marshal(v, json.Deterministic(true), jsontext.WithIndent("  "))
}

// String returns s as a JSON string. Invalid UTF-8 is an error.
func String(s string) (Value, error) { return jsontext.AppendQuote(nil, s) }

// KindOf returns the first byte of the value: '{', '[', '"', 't', 'f', 'n' or '0', and 0
// where there is none.
func KindOf(v Value) byte { return byte(v.Kind()) }

// Text reports whether b can stand in a JSON string: valid UTF-8 without NUL.
func Text(b []byte) bool { return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 }
