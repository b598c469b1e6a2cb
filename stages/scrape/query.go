package scrape

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/language"
	"golang.org/x/text/language/display"

	"github.com/jobspy/millrace/shared/doc"
)

// The bounds of a query: the intent comes from a model and may be of any size.
const (
	maxWords  = 200
	maxPlaces = 20
	minWord   = 3 // letters
)

// stop are words that stand in any title, or say nothing about the work.
var stop = set("the", "and", "for", "with", "from", "any", "all", "job", "jobs", "work", "role", "roles",
	"position", "positions", "career", "careers", "opening", "openings", "vacancy", "vacancies",
	"senior", "junior", "mid", "level", "entry", "lead", "principal", "staff", "experienced",
	"remote", "hybrid", "onsite", "full", "part", "time", "new")

// synonyms are the words by which boards name a country beside its English name.
var synonyms = map[string][]string{
	"US": {"us", "usa", "u s", "united states of america", "america"},
	"GB": {"uk", "u k", "great britain", "england", "scotland", "wales", "northern ireland"},
	"AE": {"uae"},
	"NZ": {"nz"},
	"AU": {"au", "aus"},
	"CA": {"can"},
	"DE": {"deutschland"},
	"NL": {"holland", "the netherlands"},
	"CZ": {"czech republic"},
	"KR": {"south korea", "korea"},
}

// regions are the words by which boards name a region.
var regions = map[doc.Region][]string{
	doc.RegionAustralia:    {"australia", "anz"},
	doc.RegionNorthAmerica: {"north america", "americas", "amer", "noram"},
}

// query is what is looked for.
type query struct {
	words  map[string]bool // one of them has to stand in the title; empty means any title
	places []string        // one of them has to stand in the location; empty means any place
	limit  int             // the most jobs
}

// newQuery reads a query out of a routed document. Words of fewer than three letters and
// stop words count only where there are no others.
func newQuery(in *doc.Document, limit int) *query {
	intent := in.Standard.Intent
	all := words(cut(intent.JobTitle, maxText))
	for _, s := range intent.Skills[:min(len(intent.Skills), maxWords)] {
		all = append(all, words(cut(s, maxText))...)
	}
	q := &query{words: map[string]bool{}, limit: limit}
	for _, w := range all {
		if utf8.RuneCountInString(w) >= minWord && !stop[w] && len(q.words) < maxWords {
			q.words[w] = true
		}
	}
	if len(q.words) == 0 {
		for _, w := range all[:min(len(all), maxWords)] {
			q.words[w] = true
		}
	}
	q.places = places(in)
	return q
}

// places lists what a job's location may name: the parts of the wanted location, and the
// names of the country and the region that enrich recognised in it.
func places(in *doc.Document) []string {
	text := cut(in.Standard.Intent.Location, maxText)
	if strings.TrimSpace(text) == "" {
		return nil
	}
	var out []string
	add := func(names ...string) {
		for _, n := range names {
			if n = phrase(n); n != "" && len(out) < maxPlaces {
				out = append(out, n)
			}
		}
	}
	add(text)
	add(strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(",;/|()", r) })...)
	if in.Enrichment == nil {
		return out
	}
	for _, p := range in.Enrichment.Places {
		if p.Pointer != "/content/intent/location" {
			continue
		}
		add(p.Name)
		if r, err := language.ParseRegion(p.Country); err == nil {
			add(display.English.Regions().Name(r))
			add(synonyms[p.Country]...)
		}
		add(regions[p.Region]...)
	}
	return out
}

// matches reports whether a job with this title at this place is what is looked for.
func (q *query) matches(title, place string, remote bool) bool {
	return q.titleMatches(title) && (remote || q.placeMatches(place))
}

func (q *query) titleMatches(title string) bool {
	if len(q.words) == 0 {
		return true
	}
	for _, w := range words(title) {
		if q.words[w] {
			return true
		}
	}
	return false
}

func (q *query) placeMatches(place string) bool {
	if len(q.places) == 0 {
		return true
	}
	p := " " + phrase(place) + " "
	for _, want := range q.places {
		if strings.Contains(p, " "+want+" ") {
			return true
		}
	}
	return false
}

// isRemote reports whether a location says that the work can be done from elsewhere.
func isRemote(place string) bool {
	p := " " + phrase(place) + " "
	for _, w := range []string{"remote", "anywhere", "work from home", "home based", "distributed"} {
		if strings.Contains(p, " "+w+" ") {
			return true
		}
	}
	return false
}

// words splits a text into words of letters and digits in lower case.
func words(s string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r)
	})
}

// phrase is a text as its words with one space between them.
func phrase(s string) string { return strings.Join(words(s), " ") }

func set(list ...string) map[string]bool {
	m := make(map[string]bool, len(list))
	for _, s := range list {
		m[s] = true
	}
	return m
}
