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
func RunArchive(ctx context.Context, cfg archive.Config, deps stage.Deps, o archive.Options, waiting func()) (archive.Done, error) {
	for first := true; ; first = false {
		done, err := archive.Run(ctx, cfg, deps, o)
		if !errors.Is(err, archive.ErrBusy) {
			return done, err
		}
		if first {
			waiting()
		}
		if err := sleep(ctx, archiveAgain); err != nil {
			return done, err
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

// RestoreDay restores the documents that completed on a day: from its own volume, or where that
// is gone from the one of its week or month. It returns which. Error: store.ErrNotFound.
func RestoreDay(ctx context.Context, r volume.Restore, day volume.Period) (volume.Period, volume.Restored, error) {
	for _, p := range []volume.Period{day, volume.Week(day.Start), volume.Month(day.Start)} {
		_, err := volume.Open(ctx, r.Store, p)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return p, volume.Restored{}, err
		}
		r.Within = day
		done, err := r.Run(ctx, p)
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
