package archive

import (
	"context"
	"errors"

	"github.com/jobspy/millrace/shared/volume"
)

// merge brings the volumes of weeks and months that are over up to their days. One that cannot
// be merged, because something in the archive is damaged, keeps none of the others from it.
func (r *run) merge(ctx context.Context) error {
	through := r.through()
	for _, p := range r.state.Pending() {
		if p.Kind == volume.Daily || p.End.After(through) {
			continue
		}
		if r.late() {
			return errMore
		}
		added, err := volume.Merge(ctx, r.deps.Store, p, r.cfg.limits(), r.lease.hold)
		r.done.Merged += added
		if _, damaged := errors.AsType[*volume.DamageError](err); damaged {
			r.done.Damaged++
			r.deps.Log.Error().Err(err).Str("volume", p.String()).Msg("an archive is damaged and was not merged")
			continue
		}
		if err != nil {
			return err
		}
		to := r.state
		to.Settle(p)
		if err := r.save(ctx, to); err != nil {
			return err
		}
		r.progress()
	}
	return nil
}
