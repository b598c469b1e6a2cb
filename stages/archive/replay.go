package archive

import (
	"context"
	"errors"
	"time"

	"github.com/jobspy/millrace/shared/letters"
	"github.com/jobspy/millrace/shared/store"
)

const (
	// replayTurn is how long one turn at a replay of dead letters takes, and replayLimit what it
	// may take where the broker or the store is slow. Its timer comes every few seconds, so that
	// the next turn follows at once.
	replayTurn  = 40 * time.Second
	replayLimit = time.Minute
	// replayLease is how long the next turn waits after a crash.
	replayLease = 12 * time.Second
)

// replay is a turn at a replay of dead letters. Where somebody else has it, that is left alone:
// the timer comes again.
func (a *archiver) replay(ctx context.Context, job string) error {
	kv, err := a.states.KV(ctx)
	if err != nil {
		return err
	}
	l, ctx, err := takeLeaseOf(ctx, kv, letters.LeaseKey(job), replayLease)
	if errors.Is(err, ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	e := letters.Executor{
		Queue: &letters.Queue{
			Bus: a.deps.Bus, Ledger: a.deps.Ledger, MaxReplays: a.deps.ReplayMax,
			Store: func(context.Context) (store.Store, error) { return a.deps.Store, nil },
		},
		Now: a.deps.Clock, Log: a.deps.Log,
	}
	err = e.Turn(ctx, job, a.deps.Clock().Add(replayTurn))
	if errors.Is(context.Cause(ctx), errLost) {
		err = nil // whoever has it now goes on
	}
	return errors.Join(err, l.release())
}
