package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/volume"
)

const (
	// leaseRetry is how often a lease that is taken is asked for.
	leaseRetry = 5 * time.Second
	// moreRetry is the pause before the next run where one was not enough.
	moreRetry = time.Second
	// dayGrace is how long after midnight, by this clock, a day counts as over although no
	// record of the next one has come: as far as clocks may be apart. A record that comes still
	// later is in a further part.
	dayGrace = 2 * time.Minute
)

// ErrBusy says that somebody else is archiving right now.
var ErrBusy = errors.New("another run of the archive is not over")

// errMore says that the time for one run was over before the work was.
var errMore = errors.New("there is more to archive than one run takes")

// Options says how the archive is brought up to date by hand.
type Options struct {
	// Now closes the part of the running day too.
	Now bool
	// Progress is called after each part that was stored; nil is allowed.
	Progress func(Done)
}

// Done counts what a run has done so far.
type Done struct {
	Documents int `json:"documents"` // in parts of days
	Parts     int `json:"parts"`     // of days
	Merged    int `json:"merged"`    // parts of weeks and months
	Damaged   int `json:"damaged"`   // weeks and months that could not be merged
	Waiting   int `json:"waiting"`   // documents of the running day that are in no part yet
}

// Run brings the archives up to the newest record, as the timer does, in one go. Error: ErrBusy.
func Run(ctx context.Context, cfg Config, deps stage.Deps, o Options) (Done, error) {
	if err := cfg.Validate(); err != nil {
		return Done{}, err
	}
	a := &archiver{cfg: cfg, deps: deps, states: bus.Bind(deps.Bus, contract.KVJoin)}
	return a.run(ctx, o, time.Time{}, func(ctx context.Context, r *run) error { return r.all(ctx) })
}

// Lasts implements stage.Lasting: a run takes as long as its documents need, and a turn at a
// replay a minute.
func (a *archiver) Lasts(in *doc.Document) time.Duration {
	switch in.Timer {
	case contract.CronArchive:
		return a.cfg.RunTimeout
	case contract.CronReplay:
		return replayLimit
	default:
		return 0
	}
}

// tick is one run by the timer. It ends by itself, between two parts, when two thirds of its
// time are over, so that a part that was begun has a third.
func (a *archiver) tick(ctx context.Context) error {
	_, err := a.run(ctx, Options{}, a.deps.Clock().Add(a.cfg.RunTimeout*2/3), func(ctx context.Context, r *run) error {
		if err := r.all(ctx); err != nil {
			return err
		}
		return r.expire(ctx)
	})
	switch {
	case errors.Is(err, ErrBusy):
		return fault.Wait(err, leaseRetry)
	case errors.Is(err, errMore):
		return fault.Wait(err, moreRetry)
	default:
		return err
	}
}

// run is one run of the archive. Broken off anywhere and run again it leaves each document in
// one part and the same bytes: a part counts when its volume's manifest names it, and what a
// manifest names is not written again.
type run struct {
	*archiver
	Options

	until time.Time // no further part is begun after it; zero means never
	kv    bus.KV
	lease *lease
	state volume.State
	rev   uint64
	done  Done
}

func (a *archiver) run(ctx context.Context, o Options, until time.Time, work func(context.Context, *run) error) (done Done, err error) {
	err = a.leased(ctx, o, until, func(ctx context.Context, r *run) error {
		err := work(ctx, r)
		done = r.done
		done.Waiting = r.state.Waiting.Documents
		return err
	})
	return done, err
}

// leased does some work while the lease is held. Error: ErrBusy.
func (a *archiver) leased(ctx context.Context, o Options, until time.Time, work func(context.Context, *run) error) (err error) {
	kv, err := a.states.KV(ctx)
	if err != nil {
		return err
	}
	l, ctx, err := takeLease(ctx, kv)
	if err != nil {
		return err
	}
	defer func() {
		if errors.Is(context.Cause(ctx), errLost) || errors.Is(err, errLost) {
			err = fmt.Errorf("%w: %w", ErrBusy, errLost)
		}
		if end := l.release(); err == nil {
			err = end
		}
	}()
	return work(ctx, &run{archiver: a, Options: o, until: until, kv: kv, lease: l})
}

// all does one run's work in its order.
func (r *run) all(ctx context.Context) error {
	if err := r.load(ctx); err != nil {
		return err
	}
	due, err := r.look(ctx)
	if err == nil && due {
		err = r.fill(ctx)
	}
	if err == nil {
		err = r.merge(ctx)
	}
	return err
}

// save writes down how far the archive has come.
func (r *run) save(ctx context.Context, to volume.State) error {
	rev, err := to.Write(ctx, r.kv, r.rev)
	if err != nil {
		return err
	}
	r.state, r.rev = to, rev
	return nil
}

// load reads how far the archive has come, and begins anew where the stream of records did.
func (r *run) load(ctx context.Context) error {
	var err error
	if r.state, r.rev, err = volume.ReadState(ctx, r.kv); err != nil {
		return err
	}
	if !r.state.Known {
		if err := r.adopt(ctx); err != nil {
			return err
		}
	}
	same, err := r.sameStream(ctx, r.state.LastSeq, r.state.LastAt)
	if err != nil || same {
		return err
	}
	r.deps.Log.Warn().Uint64("archived_seq", r.state.LastSeq).Msg("the stream of records began anew")
	return r.save(ctx, volume.State{Epoch: r.state.Epoch + 1, Touched: r.state.Touched, Known: true})
}

// adopt looks through the daily volumes that are there before the archive's state is, or before
// it told which weeks and months they are in.
func (r *run) adopt(ctx context.Context) error {
	to := r.state
	to.Known = true
	var last volume.Part // the newest that is known to be of the newest epoch
	for p, err := range volume.Periods(ctx, r.deps.Store, volume.Daily) {
		if err != nil {
			return err
		}
		to.Touch(p)
		v, err := volume.Open(ctx, r.deps.Store, p)
		if _, damaged := errors.AsType[*volume.DamageError](err); damaged {
			r.deps.Log.Error().Err(err).Msg("an archive is damaged")
			continue
		}
		if err != nil {
			return err
		}
		for _, part := range v.Manifest.Parts {
			if part.Epoch > last.Epoch || part.Epoch == last.Epoch && part.LastSeq > last.LastSeq {
				last = part
			}
		}
	}
	if r.rev == 0 && last.LastSeq > 0 { // the state was lost, and the stream maybe with it
		same, err := r.sameStream(ctx, last.LastSeq, last.LastAt)
		if err != nil {
			return err
		}
		to.Epoch = last.Epoch
		if !same {
			to.Epoch++
		}
	}
	return r.save(ctx, to)
}

// sameStream reports whether the stream of records may be the one in which a record had a
// sequence and time. A zero time says nothing.
func (r *run) sameStream(ctx context.Context, seq uint64, at time.Time) (bool, error) {
	info, err := r.deps.Bus.Info(ctx, contract.StreamCompleted)
	if err != nil {
		return false, fmt.Errorf("look up the records: %w", err)
	}
	if info.LastSeq < seq {
		return false, nil
	}
	if seq == 0 || seq < info.FirstSeq || at.IsZero() {
		return true, nil
	}
	m, err := r.deps.Bus.Get(ctx, contract.StreamCompleted, seq)
	if errors.Is(err, bus.ErrNotFound) {
		return true, nil // it has left the stream
	}
	if err != nil {
		return false, fmt.Errorf("look up the last record that is archived: %w", err)
	}
	return m.Time.Equal(at), nil
}
