package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
)

// Restore enters a document whose end is known from elsewhere, as e says, and reports
// whether it did: what stands in the ledger is never touched. An entry that is done leaves
// as any other does, counted from now.
func (l *Ledger) Restore(ctx context.Context, fileID string, e Entry) (bool, error) {
	if e.At.IsZero() {
		e.At = l.now().UTC()
	}
	value, err := codec.Marshal(e)
	if err != nil {
		return false, fmt.Errorf("restore ledger entry %s: %w", fileID, err)
	}
	_, err = l.kv.Create(ctx, fileID, value, l.lifetime(&e))
	switch {
	case errors.Is(err, bus.ErrExists):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("restore ledger entry %s: %w", fileID, err)
	default:
		return true, nil
	}
}
