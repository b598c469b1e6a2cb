package enrich

import (
	"bytes"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/doc"
)

func places(tb testing.TB) *gazetteer {
	tb.Helper()
	g, err := newGazetteer()
	require.NoError(tb, err)
	return g
}

func TestTableFitsItsSchema(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("data/places.schema.json")
	require.NoError(t, err)
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("test:///places", schema))
	compiled, err := c.Compile("test:///places")
	require.NoError(t, err)
	table, err := jsonschema.UnmarshalJSON(bytes.NewReader(placesJSON))
	require.NoError(t, err)
	require.NoError(t, compiled.Validate(table))
}

func TestEveryCountryOfTheTableIsOne(t *testing.T) {
	t.Parallel()
	iso := map[string]bool{}
	for _, r := range countries() {
		iso[r.String()] = true
	}
	// ISO 3166-1 has 249; x/text also knows Kosovo as XK.
	require.Len(t, iso, 250)
	g := places(t)
	for name, e := range g.names {
		for _, m := range e.meanings {
			require.True(t, iso[m.country], "%s is in %s", name, m.country)
		}
		require.True(t, len(e.meanings) > 0 || e.region != "", "%s is told to be an everyday word and means no place", name)
	}
}

func TestLocationTexts(t *testing.T) {
	t.Parallel()
	g := places(t)
	tests := []struct {
		text, name, country, rule string
		remote                    bool
	}{
		{text: "Sydney", name: "Sydney", country: "AU", rule: "city"},
		{text: "  SYDNEY!", name: "SYDNEY", country: "AU", rule: "city"},
		{text: "Sydney, NSW, Australia", name: "Australia", country: "AU", rule: "country"},
		{text: "Melbourne VIC", name: "VIC", country: "AU", rule: "state"},
		{text: "Perth, WA", name: "WA", country: "AU", rule: "state"},
		{text: "Seattle, WA", name: "WA", country: "US", rule: "state"},
		{text: "Vancouver, WA 98660", name: "WA", country: "US", rule: "state"},
		{text: "Vancouver, BC", name: "BC", country: "CA", rule: "state"},
		{text: "Victoria", name: "Victoria", country: "AU", rule: "state"},
		{text: "Victoria, BC", name: "BC", country: "CA", rule: "state"},
		{text: "Austin, TX", name: "TX", country: "US", rule: "state"},
		{text: "boise, id", name: "id", country: "US", rule: "state"},
		{text: "Round Rock, TX 78664, USA", name: "USA", country: "US", rule: "country"},
		{text: "Toronto, CA", name: "CA", country: "CA", rule: "country"},
		{text: "Los Angeles, CA", name: "CA", country: "US", rule: "state"},
		{text: "Visalia, CA", name: "CA", country: "US", rule: "state"},
		{text: "Ontario, CA", name: "Ontario", country: "CA", rule: "state"},
		{text: "Berlin, DE", name: "DE", country: "DE", rule: "country"},
		{text: "Wilmington, DE", name: "DE", country: "US", rule: "state"},
		{text: "Bangalore, IN", name: "IN", country: "IN", rule: "country"},
		{text: "Gary, IN", name: "IN", country: "US", rule: "state"},
		{text: "Gdynia, PL", name: "PL", country: "PL", rule: "country"},
		{text: "Gdynia, pl"},
		{text: "Cambridge"},
		{text: "Cambridge, MA", name: "Cambridge", country: "US", rule: "city"},
		{text: "Cambridge, UK", name: "UK", country: "GB", rule: "country"},
		{text: "Cambridge, England", name: "England", country: "GB", rule: "country"},
		{text: "London, Ontario", name: "Ontario", country: "CA", rule: "state"},
		{text: "London", name: "London", country: "GB", rule: "city"},
		{text: "London, New York, Sydney", name: "London", country: "GB", rule: "city"},
		{text: "Paris, Texas", name: "Texas", country: "US", rule: "state"},
		{text: "Georgia"},
		{text: "Atlanta, Georgia", name: "Georgia", country: "US", rule: "state"},
		{text: "Tbilisi, Georgia", name: "Georgia", country: "GE", rule: "country"},
		{text: "Newcastle (Australia)", name: "Australia", country: "AU", rule: "country"},
		{text: "New York", name: "New York", country: "US", rule: "city"},
		{text: "Washington D.C.", name: "Washington D.C", country: "US", rule: "city"},
		{text: "New Mexico", name: "New Mexico", country: "US", rule: "state"},
		{text: "Mexico City", name: "Mexico City", country: "MX", rule: "city"},
		{text: "York, New", name: "York", country: "GB", rule: "city"},
		{text: "St. Louis", name: "St. Louis", country: "US", rule: "city"},
		{text: "U.S.", name: "U.S", country: "US", rule: "country"},
		{text: "the Netherlands", name: "the Netherlands", country: "NL", rule: "country"},
		{text: "Trinidad & Tobago", name: "Trinidad & Tobago", country: "TT", rule: "country"},
		{text: "Bosnia and Herzegovina", name: "Bosnia and Herzegovina", country: "BA", rule: "country"},
		{text: "Côte d'Ivoire", name: "Côte d'Ivoire", country: "CI", rule: "country"},
		{text: "Sao Paulo", name: "Sao Paulo", country: "BR", rule: "city"},
		{text: "São Paulo, Brasil", name: "Brasil", country: "BR", rule: "country"},
		{text: "Zürich", name: "Zürich", country: "CH", rule: "city"},
		{text: "Hong Kong", name: "Hong Kong", country: "HK", rule: "country"},
		{text: "Myanmar", name: "Myanmar", country: "MM", rule: "country"},
		{text: "Viet Nam", name: "Viet Nam", country: "VN", rule: "country"},
		{text: "UAE", name: "UAE", country: "AE", rule: "country"},
		{text: "Australian capital cities", name: "Australian", country: "AU", rule: "country"},
		{text: "Berlin or London", name: "Berlin", country: "DE", rule: "city"},
		{text: "Somewhere / Brisbane", name: "Brisbane", country: "AU", rule: "city"},
		{text: "SF, Remote (North America)", name: "SF", country: "US", rule: "city", remote: true},
		{text: "Remote - US", name: "US", country: "US", rule: "country", remote: true},
		{text: "Remote, OR", remote: true},
		{text: "Work from home", remote: true},
		{text: "Hybrid remote in Sydney", name: "Sydney", country: "AU", rule: "city"},
		{text: "Remote - North America", name: "North America", rule: "area", remote: true},
		{text: "EMEA", name: "EMEA", rule: "area"},
		{text: "Sydneyside"},
		{text: "Indianapolis", name: "Indianapolis", country: "US", rule: "city"},
		{text: "Nowhere in particular"},
		{text: "東京"},
		{text: "..., ,"},
		{text: ""},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			t.Parallel()
			f := g.locate(tt.text, false)
			require.Equal(t, found{name: tt.name, country: tt.country, rule: tt.rule, remote: tt.remote, region: f.region}, f)
			if tt.country != "" {
				require.Equal(t, regionOf(tt.country), f.region)
			}
		})
	}
}

func TestFreeTexts(t *testing.T) {
	t.Parallel()
	g := places(t)
	tests := []struct{ text, country string }{
		{"python developer jobs in sydney", "AU"},
		{"sydney python jobs", "AU"},
		{"senior data engineer, Austin or remote in the US", "US"},
		{"phoenix framework developer", ""},
		{"developer jobs in phoenix", "US"},
		{"join us as a nurse", ""},
		{"nurse jobs US only", "US"},
		{"indian restaurant chef in Melbourne", "AU"},
		{"indian cuisine chef", ""},
		{"turkey farm hand near Hamilton", ""},
		{"mobile developer reading groups in London", "GB"},
		{"jobs in Nampa, ID please", ""},
		{"jobs in Nampa, ID", "US"},
		{"sales, IT", ""},
		{"python, OR java", ""},
		{"Perth accounting firm, work in the greater Toronto area", "CA"},
		{"jobs in vic", "AU"},
		{"act now", ""},
		{"jobs in Melbourne, victoria", "AU"},
		{"go developer", ""},
		{"remote java jobs", ""},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.country, g.locate(tt.text, true).country)
		})
	}
}

func TestRegions(t *testing.T) {
	t.Parallel()
	g := places(t)
	for text, want := range map[string]doc.Region{
		"Hobart": doc.RegionAustralia, "Calgary": doc.RegionNorthAmerica, "Ohio": doc.RegionNorthAmerica,
		"Auckland": doc.RegionGlobal, "Mexico": doc.RegionGlobal, "North America": doc.RegionNorthAmerica,
		"LATAM": doc.RegionGlobal, "Atlantis": "",
	} {
		require.Equal(t, want, g.locate(text, false).region, text)
	}
}

// FuzzLocate proves that no text crashes the search, that what is found stands in the text
// and that the region is that of the country.
func FuzzLocate(f *testing.F) {
	for _, seed := range []string{
		"Sydney, NSW", "Austin, TX 78701", "Berlin, DE", "SF, Remote (US only)", "U.S.A.", "Côte d’Ivoire", "a&b&c",
		"&", ", WA", "x, WA", "İstanbul", "\u0301", "St. Louis/Kansas City; MO", "in in in in", "東京, JP",
	} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	g := places(f)
	f.Fuzz(func(t *testing.T, text string, free bool) {
		got := g.locate(text, free)
		require.Contains(t, text, got.name)
		if got.country != "" {
			require.Equal(t, regionOf(got.country), got.region)
			require.NotEmpty(t, got.name)
		}
		require.Equal(t, got.rule != "", got.region != "")
	})
}
