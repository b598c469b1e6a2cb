package standardize

import (
	"fmt"
	"strings"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/fault"
)

// members is a JSON object, taken apart.
type members map[string]codec.Value

// open takes an object apart; what says which one it is. Anything else is a permanent error.
func open(v codec.Value, what string) (members, error) {
	var m members
	if codec.KindOf(v) != '{' {
		return nil, fault.New(contract.ReasonSchema, what+" is no object")
	}
	if err := codec.Unmarshal(v, &m); err != nil {
		return nil, fault.Permanently(contract.ReasonSchema, fmt.Errorf("read %s: %w", what, err))
	}
	return m, nil
}

// value returns a member; null counts as none.
func (m members) value(name string) codec.Value {
	if v := m[name]; codec.KindOf(v) != 'n' {
		return v
	}
	return nil
}

// text returns the text of a member without the blanks around it; anything else than text is
// empty.
func (m members) text(name string) string { return text(m[name]) }

// number returns the number of a member, nil where it is none or beyond a float.
func (m members) number(name string) *float64 {
	var f float64
	if codec.KindOf(m[name]) != '0' || codec.Unmarshal(m[name], &f) != nil {
		return nil
	}
	return &f
}

// take returns the first of the named members that is there and not null, and takes it out.
func (m members) take(names ...string) codec.Value {
	for _, n := range names {
		if v := m.value(n); v != nil {
			delete(m, n)
			return v
		}
	}
	return nil
}

func text(v codec.Value) string {
	var s string
	if codec.KindOf(v) != '"' || codec.Unmarshal(v, &s) != nil {
		return ""
	}
	return strings.TrimSpace(s)
}

// nameOf returns the text of v, or that of its member name where v is an object.
func nameOf(v codec.Value) string {
	if codec.KindOf(v) != '{' {
		return text(v)
	}
	var named struct {
		Name codec.Value `json:"name"`
	}
	if codec.Unmarshal(v, &named) != nil {
		return ""
	}
	return text(named.Name)
}

// skills returns the names of skills, at most most of them: of a list of texts and objects,
// or of one text that separates them by commas. Each name stands once, whatever its case.
func skills(v codec.Value, most int) []string {
	var found []string
	switch codec.KindOf(v) {
	case '"':
		found = strings.FieldsFunc(text(v), func(r rune) bool { return r == ',' || r == ';' || r == '\n' })
	case '[':
		var list []codec.Value
		if codec.Unmarshal(v, &list) != nil {
			return nil
		}
		for _, item := range list {
			found = append(found, nameOf(item))
		}
	}
	var out []string
	seen := map[string]bool{}
	for _, name := range found {
		name = strings.TrimSpace(name)
		folded := strings.ToLower(name)
		if name == "" || seen[folded] || len(out) == most {
			continue
		}
		seen[folded] = true
		out = append(out, name)
	}
	return out
}

// The members of a location in parts, from the smallest to the largest; of each line the
// first that has text counts. They are those that enrich reads.
var locationParts = [][]string{
	{"name", "text", "address", "streetAddress"},
	{"city", "locality", "addressLocality", "town", "suburb"},
	{"region", "state", "province", "addressRegion", "stateCode"},
	{"country", "countryCode", "country_code", "addressCountry"},
}

// locationText returns a location as text; one in parts is joined by commas.
func locationText(v codec.Value) string {
	if codec.KindOf(v) != '{' {
		return text(v)
	}
	var m members
	if codec.Unmarshal(v, &m) != nil {
		return ""
	}
	if codec.KindOf(m["address"]) == '{' {
		if t := locationText(m["address"]); t != "" {
			return t
		}
	}
	var found []string
	for _, names := range locationParts {
		for _, n := range names {
			if t := m.text(n); t != "" {
				found = append(found, t)
				break
			}
		}
	}
	return strings.Join(found, ", ")
}
