package ingest

import (
	"errors"
	"fmt"
	"time"
)

// Config is what ingest reads from the environment.
type Config struct {
	// MaxDocumentBytes is the largest document that is taken, in bytes, at least 1 KiB.
	MaxDocumentBytes int64 `env:"MAX_DOCUMENT_BYTES" envDefault:"16777216"`
	// MaxMetadataBytes is the largest metadata of an envelope, in bytes, from 1 KiB to 128 KiB.
	MaxMetadataBytes int `env:"MAX_METADATA_BYTES" envDefault:"65536"`
	// MaxDepth is how deeply JSON may be nested, in levels, from 8 to 1000.
	MaxDepth int `env:"MAX_JSON_DEPTH" envDefault:"64"`
	// GiveWay is how long producers are let in first when they publish faster than documents
	// are taken, from 0, which is never, to 10 min. Documents of the high lane are taken all
	// the same, others at a trickle.
	GiveWay time.Duration `env:"GIVE_WAY" envDefault:"30s"`
}

// Validate returns everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if c.MaxDocumentBytes < 1<<10 {
		errs = append(errs, fmt.Errorf("MAX_DOCUMENT_BYTES is %d, must be at least 1024", c.MaxDocumentBytes))
	}
	if c.MaxMetadataBytes < 1<<10 || c.MaxMetadataBytes > 128<<10 {
		errs = append(errs, fmt.Errorf("MAX_METADATA_BYTES is %d, must be from 1024 to 131072", c.MaxMetadataBytes))
	}
	if c.MaxDepth < 8 || c.MaxDepth > 1000 {
		errs = append(errs, fmt.Errorf("MAX_JSON_DEPTH is %d, must be from 8 to 1000", c.MaxDepth))
	}
	if c.GiveWay < 0 || c.GiveWay > 10*time.Minute {
		errs = append(errs, fmt.Errorf("GIVE_WAY is %s, must be from 0s to 10m", c.GiveWay))
	}
	return errors.Join(errs...)
}
