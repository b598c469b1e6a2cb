// Package operate is what the operator's commands do, without flags and printing: publish,
// follow and find documents, refill the line, and check a set-up. It works on the interfaces
// of the broker and the store and never changes a document on its way. Dead letters are the
// business of package letters.
package operate

import (
	"context"
	"time"
)

// MaxDocument is the largest document that is read into memory, in bytes. It is far above
// what ingest takes, so that what is too large becomes a dead letter that says so.
const MaxDocument = 256 << 20

// sleep waits for d, or returns why ctx ended.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
