package chaos

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
)

// beside runs a stage of the release before beside that of today, for the time of the event,
// and ends it as a crash would.
func (r *run) beside(ctx context.Context, e Event) error {
	defer r.rig.lock(e.Stage + " of the release before")()
	addr, err := freeAddr(ctx)
	if err != nil {
		return err
	}
	p := &process{
		name: e.Stage + "-before", path: filepath.Join(r.Before, e.Stage), log: filepath.Join(r.rig.Dir, "logs", e.Stage+"-before.log"),
		env: append(slices.Clip(r.rig.env), "HTTP_ADDR="+addr),
	}
	defer p.close()
	if err := p.start(); err != nil {
		return err
	}
	if err := wait(ctx, e.For); err != nil {
		return err
	}
	if _, exits := p.crashes(); len(exits) > 0 {
		return errors.New("it ended by itself: " + exits[0])
	}
	return nil
}
