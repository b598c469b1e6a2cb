package embedded

import (
	"context"
	"fmt"

	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/store"
)

// Remove implements store.Store. Unlike after Delete, what it removed is gone from the disk
// too: whoever removes much writes down that it did. One sync confirms all of it.
func (l *local) Remove(ctx context.Context, refs ...store.Ref) []error {
	errs := make([]error, len(refs))
	bad, gone := false, 0
	for i, r := range refs {
		if errs[i] = l.Delete(ctx, r); errs[i] != nil {
			bad = true
		} else {
			gone++
		}
	}
	if gone > 0 {
		if err := l.disk.group.join(ctx, 0); err != nil {
			bad = true
			for i, r := range refs {
				if errs[i] == nil {
					errs[i] = fmt.Errorf("delete object %q: %w", r, fault.Down(fmt.Errorf("sync the folder of the object store: %w", err)))
				}
			}
		}
	}
	if !bad {
		return nil
	}
	return errs
}
