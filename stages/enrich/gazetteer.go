package enrich

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/text/language"
	"golang.org/x/text/language/display"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/doc"
)

//go:embed data/places.json
var placesJSON []byte

// The rules by which a place is recognised, as doc.Place.Rule has them.
const (
	ruleCountry = "country"
	ruleState   = "state"
	ruleCity    = "city"
	ruleArea    = "area"
)

// table is data/places.json; places.schema.json beside it says what each part means.
type table struct {
	States []struct {
		Country string `json:"country"`
		Code    string `json:"code"`
		Name    string `json:"name"`
	} `json:"states"`
	Cities    []names `json:"cities"`
	Ambiguous []struct {
		Name      string   `json:"name"`
		Countries []string `json:"countries"`
		Usual     string   `json:"usual"`
	} `json:"ambiguous"`
	Aliases  []names `json:"aliases"`
	Demonyms []names `json:"demonyms"`
	Areas    []struct {
		Region doc.Region `json:"region"`
		Names  []string   `json:"names"`
	} `json:"areas"`
	Everyday  []string `json:"everyday"`
	Remote    []string `json:"remote"`
	NotRemote []string `json:"not_remote"`
}

type names struct {
	Country string   `json:"country"`
	Names   []string `json:"names"`
}

// meaning is one thing that a name may stand for.
type meaning struct {
	country string // ISO 3166-1 alpha-2
	rule    string
}

// entry is what is known about a name.
type entry struct {
	meanings []meaning
	usual    string     // the country meant where nothing else decides; may be empty
	region   doc.Region // of an area; has no meanings then
	everyday bool       // also an everyday word
	demonym  bool       // only what belongs to a country
}

// gazetteer finds places by name. It does not change once made and may be used concurrently.
type gazetteer struct {
	names     map[string]*entry
	codes     map[string][]meaning // two-letter codes of states, then of countries
	remote    map[string]bool
	notRemote map[string]bool
	longest   int // words in the longest name
}

func newGazetteer() (*gazetteer, error) {
	var t table
	if err := codec.Unmarshal(placesJSON, &t); err != nil {
		return nil, fmt.Errorf("read table of places: %w", err)
	}
	g := &gazetteer{
		names: map[string]*entry{}, codes: map[string][]meaning{},
		remote: map[string]bool{}, notRemote: map[string]bool{},
	}
	// The first meaning in a country counts: "New York" is the city, not the state.
	g.addCities(&t)
	g.addStates(&t)
	g.addCountries(&t)
	g.addAmbiguous(&t)
	for _, a := range t.Areas {
		for _, n := range a.Names {
			g.entry(n).region = a.Region
		}
	}
	for _, n := range t.Everyday {
		g.entry(n).everyday = true
	}
	for _, n := range t.Remote {
		g.remote[g.fold(n)] = true
	}
	for _, n := range t.NotRemote {
		g.notRemote[g.fold(n)] = true
	}
	return g, nil
}

func (g *gazetteer) addStates(t *table) {
	for _, s := range t.States {
		m := meaning{country: s.Country, rule: ruleState}
		g.add(s.Name, m)
		if len(s.Code) == 2 {
			c := strings.ToLower(s.Code)
			g.codes[c] = append(g.codes[c], m)
			continue
		}
		g.add(s.Code, m)
	}
}

// addCountries adds the English names of all countries of ISO 3166-1 as x/text has them,
// their codes, and our own aliases.
func (g *gazetteer) addCountries(t *table) {
	english := display.English.Regions()
	for _, r := range countries() {
		m := meaning{country: r.String(), rule: ruleCountry}
		for _, n := range variants(english.Name(r)) {
			g.add(n, m)
		}
		c := strings.ToLower(r.String())
		g.codes[c] = append(g.codes[c], m)
	}
	for _, a := range t.Aliases {
		for _, n := range a.Names {
			g.add(n, meaning{country: a.Country, rule: ruleCountry})
		}
	}
	for _, d := range t.Demonyms {
		for _, n := range d.Names {
			g.add(n, meaning{country: d.Country, rule: ruleCountry})
			g.entry(n).demonym = true
		}
	}
}

func (g *gazetteer) addCities(t *table) {
	for _, c := range t.Cities {
		for _, n := range c.Names {
			g.add(n, meaning{country: c.Country, rule: ruleCity})
		}
	}
}

func (g *gazetteer) addAmbiguous(t *table) {
	for _, a := range t.Ambiguous {
		for _, c := range a.Countries {
			g.add(a.Name, meaning{country: c, rule: ruleCity})
		}
		g.entry(a.Name).usual = a.Usual
	}
}

// add gives a name a meaning. Of several in one country the first counts.
func (g *gazetteer) add(name string, m meaning) {
	e := g.entry(name)
	if !slices.ContainsFunc(e.meanings, func(have meaning) bool { return have.country == m.country }) {
		e.meanings = append(e.meanings, m)
	}
}

func (g *gazetteer) entry(name string) *entry {
	k := g.fold(name)
	e, ok := g.names[k]
	if !ok {
		e = &entry{}
		g.names[k] = e
	}
	return e
}

// fold returns the key of a name, and keeps the length of the longest.
func (g *gazetteer) fold(name string) string {
	words := split(name)
	g.longest = max(g.longest, len(words))
	return key(words)
}

// countries returns the regions that ISO 3166-1 calls countries today.
func countries() []language.Region {
	// Reserved codes for parts of others, withdrawn codes and groups of countries, which x/text
	// counts as countries too.
	reserved := []string{"AC", "AN", "CP", "CQ", "CS", "DG", "EA", "EZ", "FQ", "IC", "NT", "PC", "SU", "TA", "UN", "YU"}
	var out []language.Region
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			code := string([]rune{a, b})
			if r, ok := parseRegion(code); ok && r.String() == code && !slices.Contains(reserved, code) {
				out = append(out, r)
			}
		}
	}
	return out
}

// parseRegion reads a code of two or three letters as a country. Old codes give the country
// that has replaced them, UK gives GB.
func parseRegion(code string) (language.Region, bool) {
	if len(code) != 2 && len(code) != 3 || strings.Trim(strings.ToUpper(code), "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return language.Region{}, false
	}
	r, err := language.ParseRegion(code)
	if err != nil {
		return language.Region{}, false
	}
	r = r.Canonicalize()
	return r, r.IsCountry() && len(r.String()) == 2
}

// variants returns the forms in which texts have a country's name: "Myanmar (Burma)" gives
// both names, "St. Lucia" also "Saint Lucia", "Hong Kong SAR China" also "Hong Kong".
func variants(name string) []string {
	var out []string
	if before, inside, ok := strings.Cut(name, "("); ok {
		out = append(out, strings.TrimSpace(before), strings.TrimSuffix(strings.TrimSpace(inside), ")"))
	} else {
		out = append(out, name)
	}
	if rest, ok := strings.CutPrefix(name, "St. "); ok {
		out = append(out, "Saint "+rest)
	}
	if before, _, ok := strings.Cut(name, " SAR "); ok {
		out = append(out, before)
	}
	return out
}
