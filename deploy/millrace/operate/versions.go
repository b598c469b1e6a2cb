package operate

import (
	"context"
	"strings"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

// Versioned returns the buckets that keep what is replaced and deleted as older versions, by
// their names in the store, and those of them that no rule ever rids of these.
func Versioned(ctx context.Context, s store.Store, names store.Names) (keep, forever []string, err error) {
	v, ok := s.(store.Versioner)
	if !ok {
		return nil, nil, nil
	}
	for _, bucket := range contract.Buckets() {
		have, err := v.Versions(ctx, bucket)
		if err != nil {
			return nil, nil, err
		}
		if have.Kept {
			keep = append(keep, names.Physical(bucket))
		}
		if have.Kept && !have.Expire {
			forever = append(forever, names.Physical(bucket))
		}
	}
	return keep, forever, nil
}

// versions says what the buckets do with what is replaced and deleted.
func (d *Doctor) versions(ctx context.Context, s store.Store) {
	if _, ok := s.(store.Versioner); !ok {
		return
	}
	keep, forever, err := Versioned(ctx, s, d.names)
	switch {
	case err != nil:
		d.note("versions", Warn, "", "%v", err)
	case len(keep) == 0:
		d.note("versions", OK, "", "no bucket keeps older versions of objects")
	case len(forever) > 0:
		d.note("versions", Warn, "give them a lifecycle rule that expires noncurrent versions",
			"%s keep all older versions for ever: what retention removes frees no room", strings.Join(forever, ", "))
	default:
		d.note("versions", OK, "", "%s keep older versions until their lifecycle rules remove them", strings.Join(keep, ", "))
	}
}
