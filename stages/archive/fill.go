package archive

import (
	"context"
	"fmt"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/volume"
)

func (c Config) limits() volume.Limits {
	return volume.Limits{Documents: c.PartDocuments, Bytes: int64(c.PartBytes)}
}

// over reports whether no more records of a day are to be expected.
func (r *run) over(day volume.Period) bool {
	return !r.deps.Clock().Before(day.End.Add(dayGrace))
}

// look counts what waits for a part, from records alone, and reports whether filling it is
// worth a try: it looks full, its day is over, or somebody asks for it. When a part is written
// says nothing about what is in it, so that a wrong estimate costs time and nothing else.
func (r *run) look(ctx context.Context) (due bool, err error) {
	w := r.state.Waiting
	if w.Seq < r.state.LastSeq {
		w = volume.Waiting{Seq: r.state.LastSeq}
	}
	before := w.Seq
	for m, err := range r.deps.Bus.Scan(ctx, contract.StreamCompleted, "", w.Seq+1) {
		if err != nil {
			return false, fmt.Errorf("read the records: %w", err)
		}
		day := volume.Day(m.Time).Name
		if w.Documents > 0 && w.Day != day {
			return true, nil
		}
		w.Seq, w.Day = m.Seq, day
		w.Documents++
		w.Bytes += estimate(m)
		if w.Documents >= r.cfg.PartDocuments || w.Bytes >= int64(r.cfg.PartBytes) {
			return true, nil
		}
	}
	if w.Documents > 0 {
		day, err := volume.Parse(volume.Daily, w.Day)
		if err != nil || r.Now || r.over(day) {
			return true, nil //nolint:nilerr // a state that cannot be is made anew
		}
	}
	if w.Seq == before {
		return false, nil
	}
	to := r.state
	to.Waiting = w
	return false, r.save(ctx, to)
}

// filling is the part being filled.
type filling struct {
	volume.Builder

	day  volume.Period
	last item // that was put into it
}

// fill writes the parts that are full or whose day is over, and measures what is left.
func (r *run) fill(ctx context.Context) error {
	var f *filling
	var passed *item // the newest that was in a part already
	for it, err := range r.items(ctx, r.state.LastSeq+1) {
		if err != nil {
			return err
		}
		day := volume.Day(it.at)
		if f != nil && f.day.Name != day.Name {
			if err := r.close(ctx, f); err != nil {
				return err
			}
			f = nil
			if r.late() {
				return errMore
			}
		}
		if it.document == nil {
			passed = &it
			continue
		}
		if f == nil {
			f = &filling{day: day}
			f.Compress(r.deps.Storage().Archive.Compression)
		}
		f.last = it
		if err := f.Add(it.document); err != nil {
			return err
		}
		if f.Full(r.cfg.limits()) {
			if err := r.close(ctx, f); err != nil {
				return err
			}
			f = nil
			if r.late() {
				return errMore
			}
		}
	}
	return r.rest(ctx, f, passed)
}

// rest deals with what is left after the newest record: a part whose day is over is closed,
// any other is dropped, to be filled again when there is more.
func (r *run) rest(ctx context.Context, f *filling, passed *item) error {
	if f != nil && (r.Now || r.over(f.day)) {
		return r.close(ctx, f)
	}
	to := r.state
	if passed != nil && passed.seq > to.LastSeq {
		to.LastSeq, to.LastAt = passed.seq, passed.at
		to.Touch(volume.Day(passed.at))
	}
	to.Waiting = volume.Waiting{}
	if f != nil {
		to.Waiting = volume.Waiting{Seq: f.last.seq, Day: f.day.Name, Documents: f.Documents(), Bytes: f.Lines()}
	}
	return r.save(ctx, to)
}

// late reports whether the time to begin parts is over.
func (r *run) late() bool { return !r.until.IsZero() && !r.deps.Clock().Before(r.until) }

// close stores a part and its index, then the manifest that names them, then how far the
// archive has come, each only when the one before is stored.
func (r *run) close(ctx context.Context, f *filling) error {
	if err := r.lease.hold(ctx); err != nil {
		return err
	}
	if err := volume.Append(ctx, r.deps.Store, f.day, &f.Builder, r.state.Epoch); err != nil {
		return fmt.Errorf("archive %s: %w", f.day, err)
	}
	to := r.state
	to.LastSeq, to.LastAt, to.Waiting = f.last.seq, f.last.at, volume.Waiting{}
	to.Touch(f.day)
	if err := r.save(ctx, to); err != nil {
		return err
	}
	r.done.Documents += f.Documents()
	r.done.Parts++
	r.progress()
	return nil
}

func (r *run) progress() {
	if r.Progress != nil {
		r.Progress(r.done)
	}
}

// through returns the time before which every record is in a daily volume.
func (r *run) through() time.Time {
	if day, err := volume.Parse(volume.Daily, r.state.Waiting.Day); err == nil {
		return day.Start
	}
	return volume.Day(r.deps.Clock().Add(-dayGrace)).Start
}

// lineFactor is about how often a body of a document is in its line: raw, validated, enriched
// and standardized.
const lineFactor = 4

// estimate guesses how long the line of a record's document is, in bytes.
func estimate(m *bus.Stored) int64 {
	return int64(len(m.Body)) + lineFactor*rawSize(m)
}
