package standardize

import "fmt"

// Config is what the stage reads from the environment.
type Config struct {
	// MaxSkills is how many skills of one intent or job are taken over, from 1 to 10,000. What
	// is behind them stays in the content.
	MaxSkills int `env:"MAX_SKILLS" envDefault:"200"`
}

// Validate returns everything that is wrong with c.
func (c Config) Validate() error {
	if c.MaxSkills < 1 || c.MaxSkills > 10_000 {
		return fmt.Errorf("MAX_SKILLS is %d, must be from 1 to 10000", c.MaxSkills)
	}
	return nil
}
