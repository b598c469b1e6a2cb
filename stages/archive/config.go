package archive

import (
	"errors"
	"fmt"
	"time"
)

// Config is what the archive stage takes from the environment.
type Config struct {
	// ObjectWait is how long a document waits for the objects that its record will name, from
	// when it was stored for this stage first. Default 10m; then it is a dead letter,
	// missing_object. Shorter than a store's outage it makes dead letters of sound documents,
	// long it only delays those whose objects are really gone.
	ObjectWait time.Duration `env:"OBJECT_WAIT" envDefault:"10m"`
	// PartDocuments is the most documents in one part of an archive. Default 10000; small values
	// make many objects.
	PartDocuments int `env:"ARCHIVE_PART_DOCUMENTS" envDefault:"10000"`
	// PartBytes is about how many bytes of lines, before compression, make a part full. Default
	// 64 MiB. The compressed part is held in memory until it is stored.
	PartBytes int `env:"ARCHIVE_PART_BYTES" envDefault:"67108864"`
	// RunTimeout is how long one run of the archive's timer may take, from 30s to 1h. Default
	// 15m. It must be enough to read the documents of one part; what one run does not manage the
	// next one does.
	RunTimeout time.Duration `env:"ARCHIVE_TIMEOUT" envDefault:"15m"`
}

// Validate returns everything that is wrong with c, joined, or nil.
func (c Config) Validate() error {
	var errs []error
	if c.ObjectWait < 0 {
		errs = append(errs, fmt.Errorf("OBJECT_WAIT is %s, must not be negative", c.ObjectWait))
	}
	if c.PartDocuments <= 0 {
		errs = append(errs, fmt.Errorf("ARCHIVE_PART_DOCUMENTS is %d, must be over 0", c.PartDocuments))
	}
	if c.PartBytes <= 0 {
		errs = append(errs, fmt.Errorf("ARCHIVE_PART_BYTES is %d, must be over 0", c.PartBytes))
	}
	if c.RunTimeout < 30*time.Second || c.RunTimeout > time.Hour {
		errs = append(errs, fmt.Errorf("ARCHIVE_TIMEOUT is %s, must be from 30s to 1h", c.RunTimeout))
	}
	return errors.Join(errs...)
}
