// Package volume is the archive: a volume is the archive of one period, a day, an ISO week or
// a month. It guarantees that what it gives back is what was put in, byte for byte, and says
// how that is proved.
//
// A volume is a folder of the archive's bucket. Its parts are JSON lines, one line a document,
// compressed in zstd frames of bounded size; an index beside each part finds one document
// without reading the others; the manifest names parts and indexes with their checksums. What
// the manifest does not name does not count, so that a part is stored first, then its index,
// then the manifest.
//
// Everything here is a function of records and objects: the same input gives the same bytes.
// Functions may be called concurrently; one volume has one writer at a time, which is for
// callers to see to.
package volume

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

// Kind says how long the period of a volume is.
type Kind string

// The kinds of volumes. Days, weeks and months are those of UTC, weeks those of ISO 8601.
const (
	Daily   Kind = "daily"
	Weekly  Kind = "weekly"
	Monthly Kind = "monthly"
)

// Kinds lists all kinds, the shortest first.
func Kinds() []Kind { return []Kind{Daily, Weekly, Monthly} }

// Period is the time that a volume covers. Its zero value is none: call Day, Week, Month or
// Parse.
type Period struct {
	Kind       Kind
	Name       string // 2025-01-27, 2025-W05 or 2025-01
	Start, End time.Time
}

// Day returns the day of t.
func Day(t time.Time) Period {
	y, m, d := t.UTC().Date()
	start := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	return Period{Daily, start.Format(time.DateOnly), start, start.AddDate(0, 0, 1)}
}

// Week returns the ISO week of t, which may belong to another year than t.
func Week(t time.Time) Period {
	start := Day(t).Start
	start = start.AddDate(0, 0, -int(start.Weekday()+6)%7)
	y, w := start.ISOWeek()
	return Period{Weekly, fmt.Sprintf("%04d-W%02d", y, w), start, start.AddDate(0, 0, 7)}
}

// Month returns the month of t.
func Month(t time.Time) Period {
	y, m, _ := t.UTC().Date()
	start := time.Date(y, m, 1, 0, 0, 0, 0, time.UTC)
	return Period{Monthly, start.Format("2006-01"), start, start.AddDate(0, 1, 0)}
}

// Parse reads the name of a period.
func Parse(kind Kind, name string) (Period, error) {
	var p Period
	switch kind {
	case Daily:
		if t, err := time.Parse(time.DateOnly, name); err == nil {
			p = Day(t)
		}
	case Weekly:
		var y, w int
		if _, err := fmt.Sscanf(name, "%d-W%d", &y, &w); err == nil && y > 0 && y < 10000 && w > 0 && w < 54 {
			// The fourth of January is always in the first week.
			p = Week(time.Date(y, 1, 4, 0, 0, 0, 0, time.UTC).AddDate(0, 0, 7*(w-1)))
		}
	case Monthly:
		if t, err := time.Parse("2006-01", name); err == nil {
			p = Month(t)
		}
	default:
		return Period{}, fmt.Errorf("%q is no kind of archive: it must be one of %v", kind, Kinds())
	}
	if p.Name != name || name == "" {
		return Period{}, fmt.Errorf("%q is no %s period: it must be like %s", name, kind, map[Kind]string{
			Daily: "2025-01-27", Weekly: "2025-W05", Monthly: "2025-01",
		}[kind])
	}
	return p, nil
}

// String returns the folder of the volume, such as daily/2025-01-27.
func (p Period) String() string { return string(p.Kind) + "/" + p.Name }

// Contains reports whether t is in the period.
func (p Period) Contains(t time.Time) bool { return !t.Before(p.Start) && t.Before(p.End) }

// Days returns the days of the period, in order.
func (p Period) Days() []Period {
	var days []Period
	for t := p.Start; t.Before(p.End); t = t.AddDate(0, 0, 1) {
		days = append(days, Day(t))
	}
	return days
}

// ref names an object of the volume.
func (p Period) ref(name string) store.Ref {
	return store.Ref{Bucket: contract.BucketArchive, Key: p.String() + "/" + name}
}

// manifestName is the name of the object that makes a folder a volume.
const manifestName = "manifest.json"

// Manifest names the object that holds the volume's manifest.
func (p Period) Manifest() store.Ref { return p.ref(manifestName) }

// PartKey is the key of part n, from 1.
func (p Period) PartKey(n int) string { return fmt.Sprintf("%s/part-%d.jsonl.zst", p, n) }

// IndexKey is the key of the index of part n.
func (p Period) IndexKey(n int) string { return fmt.Sprintf("%s/index-%d.json.zst", p, n) }

// keyPattern is the form of the key of a manifest, part or index.
var keyPattern = regexp.MustCompile(`^(daily|weekly|monthly)/([0-9W-]+)/(manifest\.json|part-[1-9][0-9]*\.jsonl\.zst|index-[1-9][0-9]*\.json\.zst)$`)

// periodOf returns the period to whose volume an object of the archive's bucket belongs.
func periodOf(key string) (p Period, name string, ok bool) {
	m := keyPattern.FindStringSubmatch(key)
	if m == nil {
		return Period{}, "", false
	}
	p, err := Parse(Kind(m[1]), m[2])
	return p, m[3], err == nil
}

// object names an object of the archive's bucket.
func object(key string) store.Ref { return store.Ref{Bucket: contract.BucketArchive, Key: key} }

// refOf reads bucket/key.
func refOf(s string) (store.Ref, error) {
	bucket, key, ok := strings.Cut(s, "/")
	if !ok || bucket == "" || key == "" {
		return store.Ref{}, fmt.Errorf("%q names no object", s)
	}
	return store.Ref{Bucket: bucket, Key: key}, nil
}
