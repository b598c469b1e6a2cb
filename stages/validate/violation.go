package validate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

const (
	// maxShown is how many violations the text of a SchemaError tells.
	maxShown = 10
	// maxText is the longest text of one violation, in bytes.
	maxText = 160
	// maxPointer is the longest pointer that a violation keeps, in bytes.
	maxPointer = 256
)

// Violation is one place where a document does not fit its schema.
type Violation struct {
	Pointer string // JSON Pointer from the envelope, such as /content/jobs/0/title
	Keyword string // of the schema, such as type
	Text    string // what was wanted, and which kind of value was found; never the value itself
}

// SchemaError says that a document does not fit its schema.
type SchemaError struct {
	Schema     string
	Total      int         // how many violations there are
	Violations []Violation // the first of them, sorted by pointer
}

// Error names the schema and the first violations.
func (e *SchemaError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "content does not fit schema %s: ", e.Schema)
	shown := e.Violations[:min(len(e.Violations), maxShown)]
	for i, v := range shown {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s: %s", v.Pointer, v.Text)
	}
	if more := e.Total - len(shown); more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return b.String()
}

// newSchemaError gathers the leaves of a validation error. The library gives them in no
// stable order, so they are sorted before any is left out.
func newSchemaError(name string, err *jsonschema.ValidationError, most int) *SchemaError {
	leaves := gather(nil, err)
	found := make([]Violation, len(leaves))
	p := message.NewPrinter(language.English)
	for i, leaf := range leaves {
		found[i] = Violation{
			Pointer: cut(pointer(leaf.InstanceLocation), maxPointer),
			Keyword: strings.Join(leaf.ErrorKind.KeywordPath(), "/"),
			Text:    cut(describe(leaf.ErrorKind, p), maxText),
		}
	}
	slices.SortFunc(found, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Pointer, b.Pointer), cmp.Compare(a.Keyword, b.Keyword), cmp.Compare(a.Text, b.Text))
	})
	found = slices.Compact(found)
	return &SchemaError{Schema: name, Total: len(found), Violations: slices.Clip(found[:min(len(found), most)])}
}

// gather appends the errors that have no further causes.
func gather(leaves []*jsonschema.ValidationError, err *jsonschema.ValidationError) []*jsonschema.ValidationError {
	if len(err.Causes) == 0 {
		return append(leaves, err)
	}
	for _, cause := range err.Causes {
		leaves = gather(leaves, cause)
	}
	return leaves
}

var escape = strings.NewReplacer("~", "~0", "/", "~1")

func pointer(tokens []string) string {
	var b strings.Builder
	b.WriteString("/content")
	for _, t := range tokens {
		b.WriteByte('/')
		b.WriteString(escape.Replace(t))
	}
	return b.String()
}

// describe says what was wanted without repeating the value that was found.
func describe(k jsonschema.ErrorKind, p *message.Printer) string {
	switch k := k.(type) {
	case *kind.Type:
		return fmt.Sprintf("want %s, got %s", strings.Join(k.Want, " or "), k.Got)
	case *kind.Required:
		return fmt.Sprintf("want member %s, got none", quoted(k.Missing))
	case *kind.Enum:
		return fmt.Sprintf("want one of %v", k.Want)
	case *kind.Const:
		return fmt.Sprintf("want %v", k.Want)
	case *kind.Pattern:
		return fmt.Sprintf("want text that matches %s", k.Want)
	case *kind.Format:
		return fmt.Sprintf("want text in the format %s", k.Want)
	case *kind.Minimum:
		return fmt.Sprintf("want at least %s, got less", k.Want.RatString())
	case *kind.Maximum:
		return fmt.Sprintf("want at most %s, got more", k.Want.RatString())
	case *kind.MinLength:
		return fmt.Sprintf("want at least %d characters, got %d", k.Want, k.Got)
	case *kind.MaxLength:
		return fmt.Sprintf("want at most %d characters, got %d", k.Want, k.Got)
	default:
		return k.LocalizedString(p)
	}
}

func quoted(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = brief(n)
	}
	return strings.Join(out, ", ")
}

// cut shortens s to at most n bytes, at a character's edge, and marks that it did.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
