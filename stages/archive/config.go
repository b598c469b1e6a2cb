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
	// PartDocuments is the most documents in one part of a daily archive. Default 10000; small
	// values make many objects.
	PartDocuments int `env:"ARCHIVE_PART_DOCUMENTS" envDefault:"10000"`
	// PartBytes is about how many bytes of lines, before compression, make a part full. Default
	// 64 MiB. The compressed part is held in memory until it is stored.
	PartBytes int `env:"ARCHIVE_PART_BYTES" envDefault:"67108864"`
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
	return errors.Join(errs...)
}
