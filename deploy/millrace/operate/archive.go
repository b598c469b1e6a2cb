package operate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
	"github.com/jobspy/millrace/stages/archive"
)

// archiveAgain is the pause between two questions whether another run is over.
const archiveAgain = time.Second

// RunArchive brings the archive up to date. While somebody else is at it, it calls waiting once
// and waits until ctx ends.
func RunArchive(ctx context.Context, cfg archive.Config, deps stage.Deps, o archive.Options, waiting func()) (done archive.Done, err error) {
	err = alone(ctx, waiting, func() (err error) {
		done, err = archive.Run(ctx, cfg, deps, o)
		return err
	})
	return done, err
}

// ExpireArchive removes what is over its time. While somebody else is at the archive, it calls
// waiting once and waits until ctx ends.
func ExpireArchive(ctx context.Context, cfg archive.Config, deps stage.Deps, o archive.ExpireOptions, waiting func()) (all []archive.Expired, err error) {
	err = alone(ctx, waiting, func() (err error) {
		all, err = archive.Expire(ctx, cfg, deps, o)
		return err
	})
	return all, err
}

// alone does something that only one may do at one time. While another does, it calls waiting
// once and waits until ctx ends.
func alone(ctx context.Context, waiting func(), do func() error) error {
	for first := true; ; first = false {
		err := do()
		if !errors.Is(err, archive.ErrBusy) {
			return err
		}
		if first {
			waiting()
		}
		if err := sleep(ctx, archiveAgain); err != nil {
			return err
		}
	}
}

// Volume is what a listing tells about one volume of the archive.
type Volume struct {
	Kind      volume.Kind `json:"kind"`
	Period    string      `json:"period"`
	Parts     int         `json:"parts"`
	Documents int         `json:"documents"`
	Bytes     int64       `json:"bytes"`             // of the parts, compressed
	FirstAt   time.Time   `json:"first_at,omitzero"` // when the first document completed; unknown for old volumes
	LastAt    time.Time   `json:"last_at,omitzero"`
	Error     string      `json:"error,omitzero"` // what is wrong with the manifest
}

// ListVolumes lists the volumes of the archive: days, then weeks, then months.
func ListVolumes(ctx context.Context, s store.Store) ([]Volume, error) {
	all := []Volume{}
	for _, kind := range volume.Kinds() {
		for p, err := range volume.Periods(ctx, s, kind) {
			if err != nil {
				return nil, err
			}
			one := Volume{Kind: kind, Period: p.Name}
			v, err := volume.Open(ctx, s, p)
			if _, damaged := errors.AsType[*volume.DamageError](err); damaged {
				one.Error = err.Error()
			} else if errors.Is(err, store.ErrNotFound) {
				continue // removed in between
			} else if err != nil {
				return nil, err
			} else {
				m := v.Manifest
				one.Parts, one.Documents, one.Bytes, one.FirstAt, one.LastAt = len(m.Parts), m.Documents, m.Bytes, m.FirstAt, m.LastAt
			}
			all = append(all, one)
		}
	}
	return all, nil
}

// DayRestore restores the documents that completed on a day, and notes before that they are, so
// that they stay for their time again.
type DayRestore struct {
	volume.Restore // but Store, which is that of Deps, and Within

	Deps stage.Deps
	// Waiting is called once where somebody else is at the archive and has to be waited for.
	Waiting func()
}

// Run restores from the day's own volume, or where that is gone from the one of its week or
// month. It returns which. Error: store.ErrNotFound.
func (r DayRestore) Run(ctx context.Context, day volume.Period) (volume.Period, volume.Restored, error) {
	r.Store, r.Within = r.Deps.Store, day
	for _, p := range []volume.Period{day, volume.Week(day.Start), volume.Month(day.Start)} {
		_, err := volume.Open(ctx, r.Store, p)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err == nil && !r.DryRun {
			err = alone(ctx, r.Waiting, func() error { return archive.Restoring(ctx, r.Deps, day) })
		}
		if err != nil {
			return p, volume.Restored{}, err
		}
		done, err := r.Restore.Run(ctx, p)
		if err == nil && done.Documents == 0 {
			err = fmt.Errorf("no document of %s is in %s: %w", day.Name, p, store.ErrNotFound)
		}
		return p, done, err
	}
	return day, volume.Restored{}, fmt.Errorf("no volume has the documents of %s: %w", day.Name, store.ErrNotFound)
}

// Archived is where the archive holds a document.
type Archived struct {
	Volume string `json:"volume"` // such as daily/2025-01-27
	Bucket string `json:"bucket"`
	Part   string `json:"part"` // key
	Seq    uint64 `json:"seq"`  // of the record, as it was in LLM_COMPLETED
}

func archived(f *volume.Found) *Archived {
	return &Archived{Volume: f.Period.String(), Bucket: contract.BucketArchive, Part: f.Part.Key, Seq: f.Seq}
}
