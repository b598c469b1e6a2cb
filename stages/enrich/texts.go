package enrich

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
)

// placeText is a text that says where something is.
type placeText struct {
	pointer string // from the envelope
	text    string
	country string // of a location in parts: its country, which may be a code
	free    bool   // a sentence, not a location
}

// The pointers of the texts.
const (
	intentPointer = "/content/intent/location"
	queryPointer  = "/metadata/user_query"
	jobsPointer   = "/content/jobs/"
	jobLocation   = "/location"
)

// textsOf returns the texts of a document that name places, in their order: the location of
// an intent, or else the user's query; or the location of each job.
func textsOf(e *doc.Envelope) ([]placeText, error) {
	switch contract.Task(e.Metadata.TaskType) {
	case contract.IntentAnalysis:
		return intentText(e)
	case contract.JobExtraction:
		return jobTexts(e.Content)
	case contract.DataEnrichment, contract.QualityValidation:
	}
	return nil, nil
}

func intentText(e *doc.Envelope) ([]placeText, error) {
	var content struct {
		Intent struct {
			Location codec.Value `json:"location"`
		} `json:"intent"`
	}
	if err := codec.Unmarshal(e.Content, &content); err != nil {
		return nil, fmt.Errorf("read content as an intent: %w", err)
	}
	if t, ok := locationText(content.Intent.Location); ok {
		t.pointer = intentPointer
		return []placeText{t}, nil
	}
	if strings.TrimSpace(e.Metadata.UserQuery) == "" {
		return nil, nil
	}
	return []placeText{{pointer: queryPointer, text: e.Metadata.UserQuery, free: true}}, nil
}

func jobTexts(content codec.Value) ([]placeText, error) {
	var c struct {
		Jobs []struct {
			Location codec.Value `json:"location"`
		} `json:"jobs"`
	}
	if err := codec.Unmarshal(content, &c); err != nil {
		return nil, fmt.Errorf("read content as jobs: %w", err)
	}
	var out []placeText
	for i, j := range c.Jobs {
		if t, ok := locationText(j.Location); ok {
			t.pointer = jobsPointer + strconv.Itoa(i) + jobLocation
			out = append(out, t)
		}
	}
	return out, nil
}

// The members of a location in parts, from the smallest to the largest; of each line the
// first that has text counts.
var (
	nameMembers    = []string{"name", "text", "address", "streetAddress"}
	cityMembers    = []string{"city", "locality", "addressLocality", "town", "suburb"}
	regionMembers  = []string{"region", "state", "province", "addressRegion", "stateCode"}
	countryMembers = []string{"country", "countryCode", "country_code", "addressCountry"}
)

// locationText reads a location: text, or an object of parts. ok is false where it has none.
func locationText(v codec.Value) (placeText, bool) {
	switch codec.KindOf(v) {
	case '"':
		text := stringOf(v)
		return placeText{text: text}, strings.TrimSpace(text) != ""
	case '{':
		return partsText(v)
	}
	return placeText{}, false
}

func partsText(v codec.Value) (placeText, bool) {
	var parts map[string]codec.Value
	if codec.Unmarshal(v, &parts) != nil {
		return placeText{}, false
	}
	if address := parts["address"]; codec.KindOf(address) == '{' {
		if t, ok := partsText(address); ok {
			return t, true
		}
	}
	var found []string
	for _, members := range [][]string{nameMembers, cityMembers, regionMembers, countryMembers} {
		if text := first(parts, members); text != "" {
			found = append(found, text)
		}
	}
	return placeText{text: strings.Join(found, ", "), country: first(parts, countryMembers)}, len(found) > 0
}

// first returns the first of the members that holds text, without the blanks around it.
func first(parts map[string]codec.Value, members []string) string {
	for _, m := range members {
		if text := strings.TrimSpace(stringOf(parts[m])); text != "" {
			return text
		}
	}
	return ""
}

// stringOf returns the string that v holds; that of anything else is empty.
func stringOf(v codec.Value) string {
	var s string
	if codec.KindOf(v) != '"' || codec.Unmarshal(v, &s) != nil {
		return ""
	}
	return s
}

// cut shortens s to at most n bytes, at the end of a word where it has several, so that no
// part of a word is taken for a name.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	s = strings.ToValidUTF8(s[:n], "")
	if i := strings.LastIndexAny(s, " \t\n"); i > 0 {
		s = s[:i]
	}
	return s
}
