package scrape

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/config"
	"github.com/jobspy/millrace/shared/doc"
)

func TestEveryHTTPStatusHasAVerdict(t *testing.T) {
	t.Parallel()
	type verdict struct {
		status doc.SourceStatus
		again  bool
	}
	special := map[int]verdict{
		200: {doc.SourceOK, false}, 203: {doc.SourceOK, false},
		401: {doc.SourceBlocked, false}, 403: {doc.SourceBlocked, false}, 451: {doc.SourceBlocked, false},
		429: {doc.SourceLimited, true}, 503: {doc.SourceLimited, true},
		408: {doc.SourceTimeout, true}, 504: {doc.SourceTimeout, true},
		425: {doc.SourceFailed, true}, 500: {doc.SourceFailed, true}, 502: {doc.SourceFailed, true}, 507: {doc.SourceFailed, true},
	}
	for code := 100; code < 600; code++ {
		want, ok := special[code]
		if !ok {
			want = verdict{doc.SourceFailed, false}
		}
		status, again := judge(code)
		require.Equal(t, want, verdict{status, again}, "status %d", code)
	}
}

func TestRetryAfterIsReadAsSecondsOrDate(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "-3": 0, "soon": 0, "1.5": 0,
		"99999999999": maxRetryAfter, "99999999999999999999": 0,
		start.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second,
		start.Add(-time.Hour).Format(http.TimeFormat):       0,
		start.AddDate(3, 0, 0).Format(http.TimeFormat):      maxRetryAfter,
	} {
		require.Equal(t, want, retryAfter(http.Header{"Retry-After": {text}}, start), text)
	}
}

func TestOnlyPublicAddressesAreReached(t *testing.T) {
	t.Parallel()
	open := &dialer{public: true}
	for _, a := range []string{"8.8.8.8", "104.18.0.1", "2606:4700::1111"} {
		require.True(t, open.allowed(netip.MustParseAddr(a)), a)
	}
	for _, a := range []string{
		"127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254",
		"100.100.100.200", "192.0.0.192", "224.0.0.1", "255.255.255.255", "fe80::1", "fd00:ec2::254", "ff02::1",
		"::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "240.0.0.1", "fe80::1%eth0", "2001:db8::1",
	} {
		require.False(t, open.allowed(netip.MustParseAddr(a)), a)
	}
	local := &dialer{allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	require.True(t, local.allowed(netip.MustParseAddr("127.0.0.1")))
	require.True(t, local.allowed(netip.MustParseAddr("::ffff:127.0.0.1")))
	require.False(t, local.allowed(netip.MustParseAddr("8.8.8.8")), "http is for the allowed networks only")
}

func TestMarkupBecomesLinesOfText(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, markup, want string }{
		{"blocks begin lines", "<h2>Role</h2><ul><li>one</li><li>two&nbsp;&amp; three</li></ul>", "Role\none\ntwo & three"},
		{"inline tags do not", "a <b>bold</b> word<br/>next", "a bold word\nnext"},
		{"scripts are left out", "x<script>var a = '<p>no</p>'</script><style>p{}</style>y", "xy"},
		{"broken markup is text", "1 < 2 <p <<", "1 < 2"},
		{"nothing", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, plain(tt.markup))
		})
	}
	long := plain("<p>" + strings.Repeat("ä", 2*maxText) + "</p>")
	require.LessOrEqual(t, len(long), maxText)
	require.True(t, utf8.ValidString(long))
}

func TestAPlaceIsMatchedByItsPartsAndItsCountry(t *testing.T) {
	t.Parallel()
	wanted := func(location, country string, region doc.Region) *query {
		in := task(doc.Intent{JobTitle: "engineer", Location: location}, 0)
		in.Enrichment = &doc.Enrichment{Places: []doc.Place{{Pointer: "/content/intent/location", Country: country, Region: region}}}
		return newQuery(in, 10)
	}
	tests := []struct {
		name  string
		q     *query
		place string
		want  bool
	}{
		{"the city itself", wanted("Sydney, NSW", "AU", doc.RegionAustralia), "Sydney", true},
		{"the country", wanted("Sydney", "AU", doc.RegionAustralia), "Melbourne, Australia", true},
		{"a synonym of the country", wanted("new york", "US", doc.RegionNorthAmerica), "Chicago, US", true},
		{"the region", wanted("new york", "US", doc.RegionNorthAmerica), "North America", true},
		{"another country", wanted("Sydney", "AU", doc.RegionAustralia), "London, UK", false},
		{"no part of a word", wanted("US", "US", doc.RegionNorthAmerica), "Sydney, Australia", false},
		{"no place is wanted", wanted("", "", ""), "London", true},
		{"a country code that is none", wanted("Sydney", "??", "mars"), "Sydney", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, tt.q.matches("Software Engineer", tt.place, false))
			require.True(t, tt.q.matches("Software Engineer", tt.place, true), "remote")
			require.False(t, tt.q.matches("Engineering Manager", tt.place, true), "a word is a whole word")
		})
	}
}

func TestTheCacheForgetsWhatIsOldOrTooMuch(t *testing.T) {
	t.Parallel()
	now := start
	c := newCache(func() time.Time { return now }, 2, 20)
	loads := 0
	get := func(key string, size int) {
		_, err := c.do(t.Context(), key, time.Minute, func() (page, error) {
			loads++
			return page{body: make([]byte, size)}, nil
		})
		require.NoError(t, err)
	}
	get("a", 4)
	get("a", 4)
	require.Equal(t, 1, loads)
	get("b", 4)
	get("c", 4) // a leaves
	get("b", 4)
	require.Equal(t, 3, loads)
	get("huge", 11)
	get("huge", 11)
	require.Equal(t, 5, loads)
	now = now.Add(time.Minute)
	get("b", 4)
	require.Equal(t, 6, loads)
	require.LessOrEqual(t, c.bytes, c.maxBytes)
}

func TestSettingsAreCheckedAllAtOnce(t *testing.T) {
	t.Parallel()
	_, err := config.Parse[Config](map[string]string{})
	require.NoError(t, err)
	_, err = config.Parse[Config](map[string]string{
		"SCRAPE_TIMEOUT": "0s", "SCRAPE_RATE": "-1", "SCRAPE_BURST": "0", "SCRAPE_MAX_JOBS": "0", "SCRAPE_MAX_BODY_BYTES": "0",
		"SOURCE_GREENHOUSE_URL": "ftp://x", "SOURCE_GREENHOUSE_BOARDS": "a/../b",
	})
	for _, name := range []string{
		"SCRAPE_TIMEOUT", "SCRAPE_RATE", "SCRAPE_BURST", "SCRAPE_MAX_JOBS", "SCRAPE_MAX_BODY_BYTES",
		"SOURCE_GREENHOUSE_URL", "SOURCE_GREENHOUSE_BOARDS",
	} {
		require.ErrorContains(t, err, name)
	}
	_, err = config.Parse[Config](map[string]string{"SCRAPE_ALLOW_NETS": "localhost"})
	require.Error(t, err)
}

func FuzzReadBoard(f *testing.F) {
	f.Add([]byte(oneJob))
	f.Add([]byte(`{"jobs":[{}]}`))
	f.Add([]byte(`{"jobs":[{"id":1,"title":"Engineer","content":"&lt;p&gt;&amp;#0;","offices":[{"location":null}]}]}`))
	q := newQuery(task(doc.Intent{JobTitle: "engineer"}, 0), 5)
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, j := range parseBoard(body).matching("acme", q, 5) {
			if j.Identifier == "" || j.Title == "" || len(j.Description) > maxText {
				t.Errorf("bad job %+v", j)
			}
		}
	})
}
