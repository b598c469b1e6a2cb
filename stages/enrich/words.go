package enrich

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// word is one word of a text, and how it is set off from the word before it.
type word struct {
	norm       string // lower case, without accents and apostrophes
	start, end int    // in bytes of the text
	capitals   bool   // all its letters are upper case
	apart      bool   // more than spaces, dots and hyphens before it: no name spans it
	comma      bool   // a comma before it
	stop       bool   // a sign before it that sets alternatives apart
}

// split takes a text apart. Letters and digits of any script make words; "&" counts as the
// word "and".
func split(text string) []word {
	var words []word
	var next word // signs are gathered in it until its first letter
	begin := -1   // where the current word began
	flush := func(end int) {
		if begin < 0 {
			return
		}
		next.start, next.end = begin, end
		next.norm, next.capitals = normal(text[begin:end]), capitals(text[begin:end])
		words = append(words, next)
		next, begin = word{}, -1
	}
	for i, r := range text {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), unicode.IsMark(r):
			if begin < 0 {
				begin = i
			}
		case (r == '\'' || r == '’') && begin >= 0:
		case r == '&':
			flush(i)
			begin = i
			flush(i + 1)
			words[len(words)-1].norm = "and"
		default:
			flush(i)
			next.sign(r)
		}
	}
	flush(len(text))
	return words
}

// sign notes a character between words.
func (w *word) sign(r rune) {
	switch r {
	case ' ', '\t', '.', '-', '‐', '‑', '_', '\u00a0':
	case ',':
		w.comma, w.apart = true, true
	case ';', '/', '|', '•', '·', '\n', '\r', '?', '!', '+':
		w.stop, w.apart = true, true
	default:
		w.apart = true
	}
}

// letters spells out letters that have no accent to take away.
var letters = strings.NewReplacer("ø", "o", "ł", "l", "đ", "d", "ı", "i", "æ", "ae", "œ", "oe", "ß", "ss", "'", "", "’", "")

func normal(s string) string {
	if isPlain(s) {
		return strings.ToLower(s)
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsMark(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFKD.String(s))
	return letters.Replace(s)
}

// isPlain reports whether s has only ASCII letters and digits.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf || s[i] == '\'' {
			return false
		}
	}
	return true
}

func capitals(s string) bool {
	found := false
	for _, r := range s {
		if unicode.IsLetter(r) {
			if !unicode.IsUpper(r) {
				return false
			}
			found = true
		}
	}
	return found
}

// key joins words as names are looked up.
func key(words []word) string {
	if len(words) == 1 {
		return words[0].norm
	}
	parts := make([]string, len(words))
	for i, w := range words {
		parts[i] = w.norm
	}
	return strings.Join(parts, " ")
}
