package letters

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"

	"github.com/jobspy/millrace/shared/contract"
)

// variable is one kind of what differs between errors that have the same cause.
type variable struct {
	form *regexp.Regexp
	as   string
}

// variables are the kinds in the order in which they are looked for: what is in quotes or an
// address may look like something else too.
var variables = []variable{
	{regexp.MustCompile(`"(?:[^"\\]|\\.)*(?:"|$)`), "<value>"},
	{regexp.MustCompile("`[^`]*(?:`|$)"), "<value>"},
	{regexp.MustCompile(`(^|[\s(\[{=:,])'[^']*(?:'|$)`), "$1<value>"},
	{regexp.MustCompile(`\b[a-z][a-z0-9+.-]*://[^\s,;)]+`), "<address>"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?\b`), "<time>"},
	{regexp.MustCompile(`\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b`), "<id>"},
	{regexp.MustCompile(`\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\[[0-9a-fA-F:.]*:[0-9a-fA-F:.]*\](?::\d+)?`), "<address>"},
	{regexp.MustCompile(`\b(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+):\d+\b`), "<address>"},
	{regexp.MustCompile(`\b(?:sha256:)?[0-9a-fA-F]{16,}\b`), "<hash>"},
	{regexp.MustCompile(`\btarget [A-Za-z0-9_-]+ (is|has)\b`), "target <id> $1"}, // an id that may look like a word
}

// word is what may be a number or an id.
var word = regexp.MustCompile(`[\pL\pN_-]*\pN[\pL\pN_-]*(?:[.,]\pN+)*`)

// number is a word that is only a number, maybe with a unit.
var number = regexp.MustCompile(`^-?[\d.,]+(?:ns|µs|us|ms|s|m|h|d|[kKMGT]?i?B)?$|^(?:\d+(?:\.\d+)?(?:h|ms|m|s))+$`)

// named are the words with digits that are names.
var named = []string{"sha256", "utf8", "utf-8", "base64", "int64", "uint64", "float64", "s3", "http2", "v1", "v2"}

// Shape returns an error's text with its variable parts replaced, so that errors of one cause
// read alike: numbers, ids, values in quotes, hashes, addresses and times. Parts of a list that
// then follow each other twice are told once.
func Shape(text string) string {
	for _, v := range variables {
		text = v.form.ReplaceAllString(text, v.as)
	}
	text = word.ReplaceAllStringFunc(text, func(w string) string {
		switch {
		case slices.Contains(named, strings.ToLower(w)):
			return w
		case number.MatchString(w):
			return "<n>"
		default:
			return "<id>"
		}
	})
	return strings.Join(slices.Compact(strings.Split(text, "; ")), "; ")
}

// groupIDBytes is how much of a hash is a group's id. A few dozen groups never share one.
const groupIDBytes = 4

var groupForm = regexp.MustCompile(`^[0-9a-f]{8}$`)

// groupID names the letters of one stage, reason and shape, always the same.
func groupID(stage contract.Stage, reason contract.Reason, shape string) string {
	sum := sha256.Sum256([]byte(string(stage) + "\x00" + string(reason) + "\x00" + shape))
	return hex.EncodeToString(sum[:groupIDBytes])
}
