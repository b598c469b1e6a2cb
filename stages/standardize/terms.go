package standardize

import (
	"strings"
	"time"
	"unicode"

	"github.com/jobspy/millrace/shared/codec"
)

// The kinds of employment of schema.org.
const (
	fullTime   = "FULL_TIME"
	partTime   = "PART_TIME"
	contractor = "CONTRACTOR"
	temporary  = "TEMPORARY"
	intern     = "INTERN"
	volunteer  = "VOLUNTEER"
	perDiem    = "PER_DIEM"
	other      = "OTHER"
)

// kinds are the normal forms of what texts call the kinds of employment.
var kinds = map[string]string{
	"full time": fullTime, "fulltime": fullTime, "ft": fullTime, "permanent full time": fullTime,
	"full time permanent": fullTime, "regular full time": fullTime,
	"part time": partTime, "parttime": partTime, "pt": partTime, "permanent part time": partTime, "part time permanent": partTime,
	"contract": contractor, "contractor": contractor, "contracting": contractor, "freelance": contractor, "freelancer": contractor,
	"independent contractor": contractor, "fixed term contract": contractor,
	"temporary": temporary, "temp": temporary, "fixed term": temporary, "seasonal": temporary,
	"intern": intern, "internship": intern, "trainee": intern, "traineeship": intern,
	"volunteer": volunteer, "voluntary": volunteer, "volunteering": volunteer,
	"per diem": perDiem, "perdiem": perDiem, "day rate": perDiem,
	"other": other,
}

// unsaid are normal forms that say nothing.
var unsaid = map[string]bool{
	"n a": true, "na": true, "none": true, "null": true, "unknown": true, "not specified": true, "unspecified": true,
	"not stated": true, "not mentioned": true,
}

// maxKindWords is the longest name of a kind, in words.
const maxKindWords = 3

// employment returns the kind of employment that a text names. exact says that the text is
// nothing but its name; else it is the first one named in it, OTHER where none is.
func employment(t string) (kind string, exact bool) {
	words := strings.FieldsFunc(strings.ToLower(t), func(r rune) bool { return !unicode.IsLetter(r) })
	whole := strings.Join(words, " ")
	if k, ok := kinds[whole]; ok {
		return k, true
	}
	if whole == "" || unsaid[whole] {
		return "", false
	}
	for i := range words {
		for n := min(maxKindWords, len(words)-i); n > 0; n-- {
			// Abbreviations and everyday words count only alone.
			name := strings.Join(words[i:i+n], " ")
			if k, ok := kinds[name]; ok && len(name) > 2 && k != other {
				return k, false
			}
		}
	}
	return other, false
}

// remote reads the member remote. known is false where it says neither yes nor no.
func remote(v codec.Value) (says, known bool) {
	switch codec.KindOf(v) {
	case 't':
		return true, true
	case 'f':
		return false, true
	}
	words := strings.FieldsFunc(strings.ToLower(text(v)), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	switch strings.Join(words, " ") {
	case "full", "fully", "true", "yes", "remote", "full remote", "fully remote", "100 remote", "remote only", "telecommute":
		return true, true
	case "false", "no", "none", "on site", "onsite", "not remote", "no remote":
		return false, true
	}
	return false, false
}

// timeLayouts are the forms of ISO 8601 that leave nothing open. A day counts as its first
// moment in UTC; a time without a zone may be anywhere and stays text.
var timeLayouts = []string{
	time.RFC3339, // also with fractions of a second
	"2006-01-02T15:04Z07:00",
	"2006-01-02T15:04:05Z0700",
	"2006-01-02 15:04:05Z07:00",
	"2006-01-02 15:04:05 Z07:00",
	time.DateOnly,
}

// The years in which a job can have been posted; what is outside is a mistake and stays text.
const (
	firstYear = 1990
	lastYear  = 2200
)

// maxTimeBytes is the longest text that is tried as a time, in bytes.
const maxTimeBytes = 64

// posted returns the moment that t names, in RFC 3339 and UTC, or else t itself.
func posted(t string) (moment, asText string) {
	if len(t) > maxTimeBytes {
		return "", t
	}
	for _, layout := range timeLayouts {
		at, err := time.Parse(layout, t)
		if err != nil {
			continue
		}
		at = at.UTC()
		if at.Year() < firstYear || at.Year() > lastYear {
			return "", t
		}
		return at.Format(time.RFC3339Nano), ""
	}
	return "", t
}
