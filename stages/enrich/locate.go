package enrich

import (
	"slices"
	"strings"

	"github.com/jobspy/millrace/shared/doc"
)

// hit is a name found in a text.
type hit struct {
	name     string // as the text has it
	meanings []meaning
	usual    string
	region   doc.Region // of an area
	code     bool       // a two-letter code
	led      bool       // a preposition leads to it
}

// found is what a text says.
type found struct {
	name    string
	country string
	region  doc.Region
	rule    string
	remote  bool
}

// known reports whether a country or an area was recognised.
func (f found) known() bool { return f.region != "" }

// locate reads a text. A free one is a sentence, where names that are also everyday words
// need a preposition; any other is a location, where every word is about a place.
func (g *gazetteer) locate(text string, free bool) found {
	words := split(text)
	segments := g.find(text, words, free)
	if free {
		segments = ledFirst(segments)
	}
	var out found
	for _, s := range segments {
		if out = decide(s); out.known() {
			break
		}
	}
	out.remote = g.says(words, g.remote) && !g.says(words, g.notRemote)
	return out
}

// ledFirst puts the segments with a name that a preposition leads to before the others, and
// drops what stands before that name: in "Perth accounting firm, jobs in Sydney" it is Sydney.
func ledFirst(segments [][]hit) [][]hit {
	var led, rest [][]hit
	for _, s := range segments {
		if i := slices.IndexFunc(s, func(h hit) bool { return h.led }); i >= 0 {
			led = append(led, s[i:])
			continue
		}
		rest = append(rest, s)
	}
	return append(led, rest...)
}

// find returns the names in a text, longest first at each word, in segments: what stands
// between "/", ";", "or" and the like is an alternative of its own.
func (g *gazetteer) find(text string, words []word, free bool) [][]hit {
	var segments [][]hit
	var current []hit
	end := func() {
		if len(current) > 0 {
			segments = append(segments, current)
		}
		current = nil
	}
	for i := 0; i < len(words); {
		if words[i].stop {
			end()
		}
		if h, ok := g.code(text, words, i, free); ok {
			current = append(current, h)
			i++
			continue
		}
		h, n := g.name(text, words, i, free)
		if n > 0 {
			current = append(current, h)
			i += n
			continue
		}
		if w := words[i].norm; w == "or" || w == "and" {
			end()
		}
		i++
	}
	end()
	return segments
}

// name returns the longest name that begins at word i, and its number of words.
func (g *gazetteer) name(text string, words []word, i int, free bool) (hit, int) {
	for n := g.reach(words, i); n > 0; n-- {
		e, ok := g.names[key(words[i:i+n])]
		if !ok || len(e.meanings) == 0 && e.region == "" {
			continue
		}
		leads := leads(words, i)
		if free && e.demonym {
			continue
		}
		if free && e.everyday && !leads && !(n == 1 && words[i].capitals && len(words[i].norm) <= 3) {
			continue
		}
		return hit{
			name: text[words[i].start:words[i+n-1].end], meanings: e.meanings, usual: e.usual,
			region: e.region, led: leads,
		}, n
	}
	return hit{}, 0
}

// reach returns how many words from i a name may span.
func (g *gazetteer) reach(words []word, i int) int {
	n := 1
	for n < g.longest && i+n < len(words) && !words[i+n].apart {
		n++
	}
	return n
}

// code reads word i as the ST of "City, ST": two letters behind a comma and a word, at the
// end of what belongs together (a postcode may follow). In a free text the city must be led to by
// a preposition, the code be in capitals and that of a state, for "sales, IT" is no place.
func (g *gazetteer) code(text string, words []word, i int, free bool) (hit, bool) {
	w := words[i]
	if !w.comma || w.stop || len(w.norm) != 2 || i == 0 {
		return hit{}, false
	}
	if i+1 < len(words) && !words[i+1].apart && !isNumber(words[i+1].norm) {
		return hit{}, false
	}
	meanings, city := g.codes[w.norm], i-1
	for city > 0 && !words[city].apart && !preposition(words[city].norm) && !leads(words, city) {
		city--
	}
	switch {
	case len(meanings) == 0, g.remote[words[i-1].norm], isNumber(words[i-1].norm):
		return hit{}, false
	case free && (!w.capitals || !leads(words, city) || meanings[0].rule != ruleState):
		return hit{}, false
	case !w.capitals && meanings[0].rule != ruleState:
		return hit{}, false
	}
	return hit{name: text[w.start:w.end], meanings: meanings, usual: meanings[0].country, code: true, led: leads(words, city)}, true
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// leads reports whether a preposition stands before word i; an article or the like may stand between.
func leads(words []word, i int) bool {
	for i--; i >= 0; i-- {
		switch w := words[i].norm; {
		case preposition(w):
			return true
		case slices.Contains([]string{"the", "greater", "downtown", "central", "metro", "inner", "city", "of", "or", "and"}, w):
		default:
			return false
		}
	}
	return false
}

func preposition(w string) bool {
	return slices.Contains([]string{"in", "near", "around", "at", "from", "to", "within", "across", "outside"}, w)
}

// decide returns what the names of one segment say together. A country's own name wins, then
// a state, then a city; names with several meanings take the one that another name shares.
func decide(hits []hit) found {
	for _, rule := range []string{ruleCountry, ruleState} {
		for _, h := range hits {
			if len(h.meanings) == 1 && h.meanings[0].rule == rule {
				return known(h, h.meanings[0])
			}
		}
	}
	for i, h := range hits {
		if h.meanings == nil || len(h.meanings) == 1 {
			continue
		}
		if m, ok := shared(h, hits, i); ok {
			return known(h, m)
		}
		if m, ok := usual(h); ok && h.code {
			return known(h, m)
		}
	}
	for _, h := range hits {
		if len(h.meanings) == 1 {
			return known(h, h.meanings[0])
		}
	}
	for _, h := range hits {
		if m, ok := usual(h); ok {
			return known(h, m)
		}
	}
	for _, h := range hits {
		if h.region != "" {
			return found{name: h.name, region: h.region, rule: ruleArea}
		}
	}
	return found{}
}

// shared returns the one meaning of h whose country another hit may mean as well.
func shared(h hit, hits []hit, self int) (meaning, bool) {
	var common []meaning
	for _, m := range h.meanings {
		for i, other := range hits {
			same := func(o meaning) bool { return o.country == m.country }
			if i != self && slices.ContainsFunc(other.meanings, same) {
				common = append(common, m)
				break
			}
		}
	}
	if len(common) != 1 {
		return meaning{}, false
	}
	return common[0], true
}

func usual(h hit) (meaning, bool) {
	for _, m := range h.meanings {
		if m.country == h.usual {
			return m, true
		}
	}
	return meaning{}, false
}

func known(h hit, m meaning) found {
	return found{name: h.name, country: m.country, region: regionOf(m.country), rule: m.rule}
}

// regionOf returns the region of a country; that of none is empty.
func regionOf(country string) doc.Region {
	switch country {
	case "":
		return ""
	case "AU":
		return doc.RegionAustralia
	case "US", "CA":
		return doc.RegionNorthAmerica
	default:
		return doc.RegionGlobal
	}
}

// says reports whether one of the phrases stands in the text.
func (g *gazetteer) says(words []word, phrases map[string]bool) bool {
	for i := range words {
		for n := g.reach(words, i); n > 0; n-- {
			if phrases[key(words[i:i+n])] {
				return true
			}
		}
	}
	return false
}
