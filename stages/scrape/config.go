package scrape

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Config is what the scrape stage takes from the environment.
type Config struct {
	// UserAgent is sent with every request and looked up in robots.txt. It has to say who asks
	// and where to complain: a product name, then a URL.
	UserAgent string `env:"SCRAPE_USER_AGENT,notEmpty" envDefault:"Millrace/1.0 (+https://github.com/jobspy/millrace)"`
	// Timeout is how long a source may take over all its requests. Default 8s. It never reaches
	// beyond the join deadline; too short and every source ends as timeout, too long and the
	// deadline decides.
	Timeout time.Duration `env:"SCRAPE_TIMEOUT" envDefault:"8s"`
	// AllowNets are networks, as CIDRs, that may be reached although they are private, and
	// over http too. Default none: only public addresses, only https. 0.0.0.0/0 switches the
	// protection off.
	AllowNets []netip.Prefix `env:"SCRAPE_ALLOW_NETS"`
	// MaxBodyBytes is the largest response body, in bytes after decompression. Default 16 MiB; a
	// larger one is not read to its end and counts as a failure of its board.
	MaxBodyBytes int64 `env:"SCRAPE_MAX_BODY_BYTES" envDefault:"16777216"`
	// Rate is the budget per host in requests per second. Default 2. Very small values make
	// sources end as rate_limited, large ones annoy them.
	Rate float64 `env:"SCRAPE_RATE" envDefault:"2"`
	// Burst is how many requests to a host may follow each other at once. Default 6; with 1 they
	// are evenly spaced.
	Burst int `env:"SCRAPE_BURST" envDefault:"6"`
	// MaxJobs is the most jobs that one source may give for one document. Default 100; the first
	// ones in the order of the boards are kept.
	MaxJobs int `env:"SCRAPE_MAX_JOBS" envDefault:"100"`

	Greenhouse GreenhouseConfig `envPrefix:"SOURCE_GREENHOUSE_"`
}

// GreenhouseConfig is what the source greenhouse needs.
type GreenhouseConfig struct {
	// URL is the base address of the job board API. Default is the public one.
	URL string `env:"URL,notEmpty" envDefault:"https://boards-api.greenhouse.io"`
	// Boards are the tokens of the boards that are asked, comma-separated, at most 50. Each costs
	// one request per search that the cache cannot answer.
	Boards []string `env:"BOARDS" envDefault:"gitlab,figma,amplitude"`
}

// maxBoards is the most boards: more could not be asked within a timeout and a rate budget.
const maxBoards = 50

var boardPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Validate returns everything that is wrong with c, joined, or nil.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(strings.TrimSpace(c.UserAgent) != "" && !strings.ContainsAny(c.UserAgent, "\r\n"),
		"SCRAPE_USER_AGENT must be one line that names who asks")
	check(c.Timeout > 0, "SCRAPE_TIMEOUT is %s, must be over 0", c.Timeout)
	check(c.MaxBodyBytes > 0, "SCRAPE_MAX_BODY_BYTES is %d, must be over 0", c.MaxBodyBytes)
	check(c.Rate > 0, "SCRAPE_RATE is %g, must be over 0", c.Rate)
	check(c.Burst > 0, "SCRAPE_BURST is %d, must be over 0", c.Burst)
	check(c.MaxJobs > 0, "SCRAPE_MAX_JOBS is %d, must be over 0", c.MaxJobs)
	for _, n := range c.AllowNets {
		check(n.IsValid(), "SCRAPE_ALLOW_NETS holds an invalid network")
	}
	errs = append(errs, c.Greenhouse.validate())
	return errors.Join(errs...)
}

func (c *GreenhouseConfig) validate() error {
	var errs []error
	u, err := url.Parse(c.URL)
	switch {
	case err != nil:
		errs = append(errs, fmt.Errorf("SOURCE_GREENHOUSE_URL: %w", err))
	case (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		errs = append(errs, fmt.Errorf("SOURCE_GREENHOUSE_URL is %q, must be an http or https address without user, query and fragment", c.URL))
	}
	if len(c.Boards) == 0 || len(c.Boards) > maxBoards {
		errs = append(errs, fmt.Errorf("SOURCE_GREENHOUSE_BOARDS names %d boards, must be 1 to %d", len(c.Boards), maxBoards))
	}
	for _, b := range c.Boards {
		if !boardPattern.MatchString(b) {
			errs = append(errs, fmt.Errorf("SOURCE_GREENHOUSE_BOARDS holds %q, which is no board token", b))
		}
	}
	return errors.Join(errs...)
}
