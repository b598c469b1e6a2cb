package route

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Config is what the stage reads from the environment.
type Config struct {
	// JoinDeadline is how long after the document reached this stage the answers of its
	// sources are waited for, and the target of an enrichment or verdict, from 1 s to 10 min.
	// What comes later is added to the result but no longer waited for.
	JoinDeadline time.Duration `env:"JOIN_DEADLINE" envDefault:"20s"`
	// Sources are the sources that are asked: names separated by "|" for every strategy, or
	// strategy=name|name, several of these separated by commas. A strategy that is not named
	// gets those of the entry without a strategy.
	Sources Sources `env:"ROUTE_SOURCES" envDefault:"greenhouse"`
	// SourceTime is how long one source usually takes to answer, from 0 to 10 min. Sources are
	// asked at the same time, so it is also the estimate for all of them together.
	SourceTime time.Duration `env:"ROUTE_SOURCE_TIME" envDefault:"1500ms"`
}

// Validate returns everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if c.JoinDeadline < time.Second || c.JoinDeadline > 10*time.Minute {
		errs = append(errs, fmt.Errorf("JOIN_DEADLINE is %s, must be from 1s to 10m", c.JoinDeadline))
	}
	if c.SourceTime < 0 || c.SourceTime > 10*time.Minute {
		errs = append(errs, fmt.Errorf("ROUTE_SOURCE_TIME is %s, must be from 0s to 10m", c.SourceTime))
	}
	for _, s := range strategies() {
		if len(c.Sources.For(s)) == 0 {
			errs = append(errs, fmt.Errorf("ROUTE_SOURCES names no source for %s", s))
		}
	}
	return errors.Join(errs...)
}

// maxSources is how many sources a strategy may have: each is a message of its own.
const maxSources = 50

var sourcePattern = regexp.MustCompile(`^[a-z0-9_-]{1,32}$`)

// Sources says which sources a strategy asks. The zero value has none.
type Sources struct {
	strategy map[string][]string
	other    []string // for strategies that are not named
}

// For returns the sources of a strategy, in the order in which they were named. Callers do
// not change it.
func (s Sources) For(strategy string) []string {
	if list, ok := s.strategy[strategy]; ok {
		return list
	}
	return s.other
}

// UnmarshalText reads the form of ROUTE_SOURCES.
func (s *Sources) UnmarshalText(text []byte) error {
	read := Sources{strategy: map[string][]string{}}
	for part := range strings.SplitSeq(string(text), ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		strategy, names, named := strings.Cut(part, "=")
		if !named {
			strategy, names = "", part
		}
		list, err := sourceList(names)
		if err != nil {
			return err
		}
		strategy = strings.TrimSpace(strategy)
		switch _, taken := read.strategy[strategy]; {
		case named && !slices.Contains(strategies(), strategy):
			return fmt.Errorf("%q is no strategy; there are %s", strategy, strings.Join(strategies(), ", "))
		case named && taken, !named && read.other != nil:
			return fmt.Errorf("the sources of %q are named twice", strategy)
		case named:
			read.strategy[strategy] = list
		default:
			read.other = list
		}
	}
	*s = read
	return nil
}

// sourceList reads names separated by "|"; one that comes again counts once.
func sourceList(text string) ([]string, error) {
	var list []string
	for name := range strings.SplitSeq(text, "|") {
		name = strings.TrimSpace(name)
		if !sourcePattern.MatchString(name) {
			return nil, fmt.Errorf("%q is no name of a source: lower-case letters, digits, _ and -, at most 32", name)
		}
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	if len(list) > maxSources {
		return nil, fmt.Errorf("%d sources for one strategy, at most %d", len(list), maxSources)
	}
	return list, nil
}
