package slot_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/semaphore"

	"github.com/jobspy/millrace/shared/slot"
)

// taken returns a slot out of one, and a context that works in it.
func taken(t *testing.T) (context.Context, *semaphore.Weighted, *slot.Slot) {
	t.Helper()
	all := semaphore.NewWeighted(1)
	require.NoError(t, all.Acquire(t.Context(), 1))
	s := slot.New(all)
	return slot.With(t.Context(), s), all, s
}

func TestAPauseGivesTheSlotToAnother(t *testing.T) {
	t.Parallel()
	ctx, all, s := taken(t)
	require.False(t, all.TryAcquire(1))
	resume := slot.Pause(ctx)
	require.True(t, all.TryAcquire(1))
	slot.Pause(ctx)() // there is none to give back, and none is taken
	all.Release(1)
	resume()
	require.False(t, all.TryAcquire(1))
	s.Release()
	s.Release()
	require.True(t, all.TryAcquire(1))
	require.False(t, all.TryAcquire(1), "given back once")
}

func TestWithoutASlotAPauseDoesNothing(t *testing.T) {
	t.Parallel()
	slot.Pause(t.Context())()
}

func TestWhoIsStoppedDoesNotWaitForASlot(t *testing.T) {
	t.Parallel()
	parent, all, s := taken(t)
	ctx, cancel := context.WithCancel(parent)
	resume := slot.Pause(ctx)
	require.True(t, all.TryAcquire(1), "somebody has it and keeps it")
	cancel()
	resume()
	s.Release()
	require.False(t, all.TryAcquire(1), "what is not held is not given back")
}
