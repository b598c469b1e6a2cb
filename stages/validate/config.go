package validate

import (
	"errors"
	"fmt"
)

// Config is what the stage reads from the environment.
type Config struct {
	// MaxJSONDepth is how many objects and arrays may stand inside each other in the content,
	// from 1 to 1000. What is deeper is a dead letter (malformed).
	MaxJSONDepth int `env:"MAX_JSON_DEPTH" envDefault:"64"`
	// MaxJSONValues is how many values (members, items) the content may hold, from 1000 to
	// 10 million. Checking allocates up to 1.2 kB for each, so it bounds what one hostile
	// document can take. What holds more is a dead letter (oversize).
	MaxJSONValues int `env:"MAX_JSON_VALUES" envDefault:"200000"`
	// MaxSchemaErrors is how many violations of a schema are kept for one document, from 1 to
	// 10,000. The first ten of them, by place, are told in the dead letter.
	MaxSchemaErrors int `env:"MAX_SCHEMA_ERRORS" envDefault:"100"`
}

// Validate returns everything that is wrong with c.
func (c Config) Validate() error {
	return errors.Join(
		within("MAX_JSON_DEPTH", c.MaxJSONDepth, 1, 1000),
		within("MAX_JSON_VALUES", c.MaxJSONValues, 1000, 10_000_000),
		within("MAX_SCHEMA_ERRORS", c.MaxSchemaErrors, 1, 10_000),
	)
}

func within(name string, n, least, most int) error {
	if n < least || n > most {
		return fmt.Errorf("%s is %d, must be from %d to %d", name, n, least, most)
	}
	return nil
}
