package archive

import (
	"context"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/volume"
)

// Restoring notes that the documents of a day are about to be restored, while nothing is being
// removed: whoever removes after that reads the note, so that what is brought back stays for
// its time again. Error: ErrBusy.
func Restoring(ctx context.Context, deps stage.Deps, day volume.Period) error {
	a := &archiver{deps: deps, states: bus.Bind(deps.Bus, contract.KVJoin)}
	return a.leased(ctx, Options{}, time.Time{}, func(ctx context.Context, _ *run) error {
		return volume.WriteRestored(ctx, deps.Store, day, deps.Clock())
	})
}
