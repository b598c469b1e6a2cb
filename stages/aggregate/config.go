package aggregate

import (
	"errors"
	"fmt"
	"time"
)

// Config is what the aggregate stage takes from the environment.
type Config struct {
	// JoinDeadline is how long an enrichment or a verdict waits for the document it is about,
	// from when it was stored first. Default 20s, as long as a search takes at most. With 0 the
	// target has to be there already; a long wait only delays the dead letter.
	JoinDeadline time.Duration `env:"JOIN_DEADLINE" envDefault:"20s"`
	// JoinTTL is how long a join is remembered after its last change. Default 24h. It has to
	// outlast any outage in the middle of a search, for a join that is forgotten before all
	// its messages came through begins anew; each remembered one takes about half a kilobyte
	// in the broker. At least one second.
	JoinTTL time.Duration `env:"JOIN_TTL" envDefault:"24h"`
	// MergeMaxBytes bounds the facts and verdicts that are merged into one result, in bytes of
	// JSON. Default 16 MiB. What would go beyond is a dead letter; small values refuse large
	// enrichments, large ones make results that are slow to rewrite.
	MergeMaxBytes int `env:"MERGE_MAX_BYTES" envDefault:"16777216"`
}

// Validate returns everything that is wrong with c, joined, or nil.
func (c Config) Validate() error {
	var errs []error
	if c.JoinDeadline < 0 {
		errs = append(errs, fmt.Errorf("JOIN_DEADLINE is %s, must not be negative", c.JoinDeadline))
	}
	if c.JoinTTL < time.Second {
		errs = append(errs, fmt.Errorf("JOIN_TTL is %s, must be at least 1s", c.JoinTTL))
	}
	if c.MergeMaxBytes <= 0 {
		errs = append(errs, fmt.Errorf("MERGE_MAX_BYTES is %d, must be over 0", c.MergeMaxBytes))
	}
	return errors.Join(errs...)
}
