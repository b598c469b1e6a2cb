package operate

import (
	"strings"

	"github.com/jobspy/millrace/shared/policy"
)

// retention says in a few words how long what is stored stays.
func retention(r policy.Retention) string {
	var all []string
	for _, one := range []struct {
		name string
		span policy.Span
	}{
		{"raw", r.Raw},
		{"validated", r.Validated},
		{"enriched", r.Enriched},
		{"standardized", r.Standardized},
		{"results", r.Results},
		{"scraped", r.Scraped},
		{"exports", r.Exports},
		{"inbox", r.Inbox},
		{"claims", r.Claims},
		{"daily", r.Daily},
		{"weekly", r.Weekly},
		{"monthly", r.Monthly},
	} {
		if one.span != policy.Keep && one.span != "" {
			all = append(all, one.name+" "+string(one.span))
		}
	}
	if len(all) == 0 {
		return "all that is stored is kept"
	}
	return "kept for: " + strings.Join(all, ", ") + ", the rest for ever"
}
