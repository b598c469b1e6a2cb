// Package policy is what people change while the line runs. A value lies in a key of
// LLM_CONFIG; it takes effect where it fits its JSON Schema and makes sense, and else the
// one before it stays. Every field has a default, so that a value may name only what differs.
package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jobspy/millrace/deploy/config"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// KeyStorage is the key of Storage in LLM_CONFIG.
const KeyStorage = "storage"

// keyLast holds what was written last by Write. It counts for a process that starts while the
// value of KeyStorage, from some other client, is a bad one.
const keyLast = KeyStorage + ".last"

// Storage says how documents are stored. Slices and maps are not changed once it is made.
type Storage struct {
	// Views and Classes are where documents are stored that are taken in from now on; at least
	// one view, and always the raw class.
	Views   []contract.View  `json:"views"`
	Classes []contract.Class `json:"classes"`
	// Buckets holds other names for buckets. It is read when a process starts and not again.
	Buckets   store.Names `json:"buckets"`
	Archive   Archive     `json:"archive"`
	Retention Retention   `json:"retention"`
	// LegalHold holds prefixes, as bucket/prefix, under which nothing is ever removed.
	LegalHold []string `json:"legal_hold"`
}

// Archive says how archives are written.
type Archive struct {
	// Compression is how hard zstd tries: fastest, default, better or best.
	Compression string `json:"compression"`
}

// Retention says how long what is stored stays: objects of documents from the end of the day, in
// UTC, on which the document completed, volumes from their end, inbox and claims from when they
// were stored.
type Retention struct {
	Raw          Span `json:"raw"`
	Validated    Span `json:"validated"`
	Enriched     Span `json:"enriched"`
	Standardized Span `json:"standardized"`
	Results      Span `json:"results"` // job-data/processed
	Scraped      Span `json:"scraped"` // job-data/raw
	Exports      Span `json:"exports"` // job-data/exports
	// Inbox and Claims are only removed when no message and no dead letter names them.
	Inbox   Span `json:"inbox"`
	Claims  Span `json:"claims"`
	Daily   Span `json:"daily"`
	Weekly  Span `json:"weekly"`
	Monthly Span `json:"monthly"`
}

// Keep is the Span of what is never removed.
const Keep Span = "keep"

// Span is how long something stays: Keep, or a number of hours or days such as 48h or 30d.
type Span string

// Duration returns the span as a time; keep is true where there is none, because it stays.
func (s Span) Duration() (d time.Duration, keep bool) {
	unit := time.Hour
	number, days := strings.CutSuffix(string(s), "d")
	if days {
		unit = 24 * time.Hour
	} else {
		number = strings.TrimSuffix(number, "h")
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || n == 0 {
		return 0, true // the schema lets nothing else but Keep come here
	}
	return time.Duration(n) * unit, false
}

// Seed returns the policy as it is before anybody has changed it, with the given views or,
// where there are none, all of them.
func Seed(views []contract.View) Storage {
	var s Storage
	if err := codec.Unmarshal(config.Storage(), &s); err != nil {
		// It is part of the program, and a test reads it.
		panic(fmt.Sprintf("read storage_config.json: %v", err))
	}
	if len(views) > 0 {
		s.Views = doc.NewLayout(views, nil).Views()
	}
	return s
}

// ParseStorage reads a value of KeyStorage. What it does not name is taken from seed. The
// error is a *RefusedError.
func ParseStorage(text []byte, seed Storage) (Storage, error) {
	if err := check(KeyStorage, config.StorageSchema(), text); err != nil {
		return Storage{}, err
	}
	s := seed
	s.Views, s.Classes, s.Buckets, s.LegalHold = nil, nil, nil, nil
	if err := codec.Unmarshal(text, &s); err != nil {
		return Storage{}, &RefusedError{Key: KeyStorage, Violations: []Violation{{Problem: err.Error()}}}
	}
	if s.Views == nil {
		s.Views = seed.Views
	}
	if s.Classes == nil {
		s.Classes = seed.Classes
	}
	if s.Buckets == nil {
		s.Buckets = seed.Buckets
	}
	if s.LegalHold == nil {
		s.LegalHold = seed.LegalHold
	}
	if found := s.violations(); len(found) > 0 {
		return Storage{}, &RefusedError{Key: KeyStorage, Violations: found}
	}
	return s, nil
}

// violations returns what a schema cannot say.
func (s Storage) violations() []Violation {
	var found []Violation
	wrong := func(field, format string, args ...any) {
		found = append(found, Violation{field, fmt.Sprintf(format, args...)})
	}
	if !slices.Contains(s.Classes, contract.ClassRaw) {
		wrong("/classes", "%s is always kept, so it has to be among them", contract.ClassRaw)
	}
	taken := map[string]string{}
	for _, logical := range contract.Buckets() {
		name := s.Buckets.Physical(logical)
		if other, twice := taken[name]; twice {
			wrong("/buckets/"+logical, "%q is the name of %s already", name, other)
		}
		taken[name] = logical
	}
	for _, logical := range slices.Sorted(maps.Keys(s.Buckets)) {
		name := s.Buckets[logical]
		if name != logical && slices.Contains(contract.Buckets(), name) {
			wrong("/buckets/"+logical, "%q is what another bucket is called here, so it would be taken for that", name)
		}
	}
	for i, held := range s.LegalHold {
		bucket, _, _ := strings.Cut(held, "/")
		if _, ok := taken[s.Buckets.Physical(bucket)]; !ok {
			wrong("/legal_hold/"+strconv.Itoa(i), "%q is in no bucket of %v", held, contract.Buckets())
		}
	}
	return found
}

// Layout returns where documents are stored that are taken in now.
func (s Storage) Layout() doc.Layout { return doc.NewLayout(s.Views, s.Classes) }

// Text returns the policy with every field, for people.
func (s Storage) Text() ([]byte, error) {
	if s.Buckets == nil {
		s.Buckets = store.Names{}
	}
	b, err := codec.MarshalIndent(s)
	if err != nil {
		return nil, fmt.Errorf("write the storage policy: %w", err)
	}
	return append(b, '\n'), nil
}
