package scrape

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// maxText is the longest text that is made of a description, in bytes; what is beyond it is
// in the raw answer.
const maxText = 32 << 10

// maxMarkup is the longest markup that is read for a description, in bytes.
const maxMarkup = 1 << 20

// blocks begin a new line.
var blocks = map[atom.Atom]bool{
	atom.P: true, atom.Div: true, atom.Br: true, atom.Li: true, atom.Ul: true, atom.Ol: true,
	atom.H1: true, atom.H2: true, atom.H3: true, atom.H4: true, atom.H5: true, atom.H6: true,
	atom.Tr: true, atom.Table: true, atom.Section: true, atom.Blockquote: true, atom.Hr: true,
	atom.Dt: true, atom.Dd: true, atom.Pre: true,
}

// plain reduces HTML to text: a line per block, no empty lines, no space at the ends, spaces
// run together, scripts and styles left out. Any input gives some text.
func plain(markup string) string {
	z := html.NewTokenizer(strings.NewReader(markup[:min(len(markup), maxMarkup)]))
	var b strings.Builder
	hidden := false
	for b.Len() < 2*maxText {
		kind := z.Next()
		if kind == html.ErrorToken {
			break
		}
		t := z.Token()
		switch kind {
		case html.TextToken:
			if !hidden {
				b.WriteString(strings.ReplaceAll(t.Data, "\n", " "))
			}
		case html.StartTagToken, html.EndTagToken, html.SelfClosingTagToken:
			if t.DataAtom == atom.Script || t.DataAtom == atom.Style {
				hidden = kind == html.StartTagToken
			}
			if blocks[t.DataAtom] {
				b.WriteByte('\n')
			}
		case html.ErrorToken, html.CommentToken, html.DoctypeToken:
		}
	}
	return cut(tidy(b.String()), maxText)
}

// tidy runs spaces together and drops empty lines.
func tidy(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		if fields := strings.Fields(line); len(fields) > 0 {
			lines = append(lines, strings.Join(fields, " "))
		}
	}
	return strings.ToValidUTF8(strings.Join(lines, "\n"), "\uFFFD")
}

// cut shortens s to at most n bytes without breaking a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
