package enrich

import "fmt"

// Config is what the stage reads from the environment.
type Config struct {
	// MaxPlaceBytes is how much of a text is searched for places and kept as its text, in
	// bytes, from 64 to 65,536. What lies behind is not looked at.
	MaxPlaceBytes int `env:"MAX_PLACE_BYTES" envDefault:"1024"`
}

// Validate returns everything that is wrong with c.
func (c Config) Validate() error {
	if c.MaxPlaceBytes < 64 || c.MaxPlaceBytes > 65_536 {
		return fmt.Errorf("MAX_PLACE_BYTES is %d, must be from 64 to 65536", c.MaxPlaceBytes)
	}
	return nil
}
