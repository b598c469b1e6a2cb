package volume

import (
	"bytes"
	"errors"
	"unicode/utf8"

	"github.com/jobspy/millrace/shared/codec"
)

// maxDepth is how deeply a body may be nested to stand in a line as JSON: as deep as any
// setting lets the content be, and what the stages put around it.
const maxDepth = 1100

// payload is a body in a line. Exactly one of its members is there.
type payload struct {
	JSON   codec.Value `json:"json,omitzero"`   // an object or array that comes back as it was
	Text   *string     `json:"text,omitzero"`   // other UTF-8
	Base64 []byte      `json:"base64,omitzero"` // anything else
}

// wrap says how a body stands in a line. It stands as JSON only where writing it gives the
// same bytes again: no blanks, no other escapes than needed, no name twice.
func wrap(body []byte) payload {
	if plain(body) {
		return payload{JSON: body}
	}
	if utf8.Valid(body) {
		text := string(body)
		return payload{Text: &text}
	}
	return payload{Base64: body}
}

// plain reports whether body is JSON that is written as it is read.
func plain(body []byte) bool {
	if len(body) == 0 || body[0] != '{' && body[0] != '[' || codec.Check(body, maxDepth) != nil {
		return false
	}
	again, err := codec.Marshal(codec.Value(body))
	return err == nil && bytes.Equal(again, body)
}

// errNoBody says that a line holds no body where one must be.
var errNoBody = errors.New("there must be exactly one of json, text and base64")

// bytes returns the body.
func (p payload) bytes() ([]byte, error) {
	n := 0
	var body []byte
	if p.JSON != nil {
		n++
		body = p.JSON
	}
	if p.Text != nil {
		n++
		body = []byte(*p.Text)
	}
	if p.Base64 != nil {
		n++
		body = p.Base64
	}
	if n != 1 {
		return nil, errNoBody
	}
	return body, nil
}
