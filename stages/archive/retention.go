package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/volume"
)

const (
	// expireEvery is the longest time between two looks for what is to be removed. A part that
	// came late for a day that was gone through waits for so long at most.
	expireEvery = 24 * time.Hour
	// sweepEvery is the time between two looks through inbox and claims.
	sweepEvery = 6 * time.Hour
	// clockSlack is how far clocks of replicas may be apart before one of them is said to have
	// jumped back.
	clockSlack = dayGrace
)

// ErrClock says that the clock is behind the one by which was removed last, so that nothing is
// removed by it.
var ErrClock = errors.New("the clock is behind that of the last look for what is to be removed")

// ExpireOptions says how what is over its time is removed by hand.
type ExpireOptions struct {
	// DryRun finds out what would be removed and changes nothing.
	DryRun bool
	// Progress is called for each entry of the report when it is final; nil is allowed.
	Progress func(Expired)
}

// Expired is what became of one class of objects of one day, or of one volume.
type Expired struct {
	Class   string `json:"class"`           // as in the policy's retention
	Period  string `json:"period,omitzero"` // the day on which the documents completed, or the volume
	Volume  string `json:"volume,omitzero"` // that holds the documents
	Removed int    `json:"removed"`         // objects; in a dry run those that would be
	Bytes   int64  `json:"bytes"`           // of those
	Kept    Kept   `json:"kept"`            // objects that stay although their time is over
	Why     string `json:"why,omitzero"`    // nothing was removed at all, and why
	Failed  bool   `json:"failed,omitzero"` // Why says that something is wrong
}

// Kept counts objects that stay, by why they do.
type Kept struct {
	Changed    int `json:"changed,omitzero"`    // they are not what the archive holds
	Held       int `json:"held,omitzero"`       // by a legal hold
	Named      int `json:"named,omitzero"`      // by a message or a dead letter, or their document is on its way again
	Inexact    int `json:"inexact,omitzero"`    // the archive does not hold them byte for byte
	Unfinished int `json:"unfinished,omitzero"` // nothing says that their document has ended
}

// Sum returns how many objects stay.
func (k Kept) Sum() int { return k.Changed + k.Held + k.Named + k.Inexact + k.Unfinished }

// Expire removes what is over its time now, as the timer does when the archive is up to date,
// and reports each class of each day that was looked at. Errors: ErrBusy, ErrClock.
func Expire(ctx context.Context, cfg Config, deps stage.Deps, o ExpireOptions) ([]Expired, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &archiver{cfg: cfg, deps: deps, states: bus.Bind(deps.Bus, contract.KVJoin)}
	report := []Expired{}
	err := a.leased(ctx, Options{}, time.Time{}, func(ctx context.Context, r *run) error {
		if err := r.load(ctx); err != nil {
			return err
		}
		e := newExpiry(r, o)
		e.told = func(x Expired) {
			report = append(report, x)
			if o.Progress != nil {
				o.Progress(x)
			}
		}
		return e.all(ctx, true)
	})
	return report, err
}

// expire is the part of a run by the timer in which what is over its time is removed.
func (r *run) expire(ctx context.Context) error {
	e := newExpiry(r, ExpireOptions{})
	e.told = e.log
	err := e.all(ctx, false)
	if errors.Is(err, ErrClock) {
		r.deps.Log.Error().Err(err).Msg("nothing is removed")
		return nil
	}
	return err
}

// expiry is one look for what is over its time. Broken off anywhere and begun again it removes
// the same: what is gone already is passed over.
type expiry struct {
	*run
	ExpireOptions

	now    time.Time
	limits map[string]time.Duration // of classes that are not kept for ever
	state  expiryState
	queues *queues
	told   func(Expired)
	sound  map[string]string // volumes that were verified in this run, with the checksum of the manifest
	next   time.Time         // when something is due again
}

func newExpiry(r *run, o ExpireOptions) *expiry {
	now := r.deps.Clock()
	return &expiry{
		run: r, ExpireOptions: o, now: now, limits: limitsOf(r.deps.Storage().Retention),
		queues: newQueues(r), sound: map[string]string{}, next: now.Add(expireEvery),
	}
}

// all removes what is over its time: hot views, inbox and claims, then volumes. Unless forced
// it ends at once where nothing can be due.
func (e *expiry) all(ctx context.Context, forced bool) error {
	if err := e.readState(ctx); err != nil {
		return err
	}
	policy := digest(e.deps.Storage())
	if e.state.Looked.Sub(e.now) > clockSlack {
		last := e.state.Looked
		e.state.Looked, e.state.Next, e.state.Sweep = e.now, e.now.Add(expireEvery), e.now.Add(sweepEvery)
		if err := e.writeState(ctx); err != nil {
			return err
		}
		return fmt.Errorf("%w: %s, it was %s", ErrClock, e.now.UTC().Format(time.RFC3339), last.UTC().Format(time.RFC3339))
	}
	due := forced || e.state.Policy != policy
	if due || !e.now.Before(e.state.Next) {
		if err := e.views(ctx); err != nil {
			return err
		}
		if err := e.volumes(ctx); err != nil {
			return err
		}
		e.state.Next, e.state.Policy, e.state.Looked = e.next, policy, e.now
		if err := e.writeState(ctx); err != nil {
			return err
		}
	}
	if due || !e.now.Before(e.state.Sweep) {
		if err := e.sweep(ctx); err != nil {
			return err
		}
		e.state.Sweep, e.state.Looked = e.now.Add(sweepEvery), e.now
		return e.writeState(ctx)
	}
	return nil
}

// dueAt notes that something is due at a time, and reports whether that has come.
func (e *expiry) dueAt(at time.Time) bool {
	if !e.now.Before(at) {
		return true
	}
	if at.Before(e.next) {
		e.next = at
	}
	return false
}

// verified proves that a volume holds what it must, once in a run, and returns what is wrong
// with it. A proof that a run before this one wrote down counts too, while the manifest is the
// same: a run that is broken off need not begin with it again.
func (e *expiry) verified(ctx context.Context, p volume.Period) (wrong string, err error) {
	v, err := volume.Open(ctx, e.deps.Store, p)
	if _, damaged := errors.AsType[*volume.DamageError](err); damaged {
		return err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	sum := v.Manifest.SHA256
	if have, ok := e.sound[p.String()]; ok && have == sum {
		return "", nil
	}
	last := e.state.Verified
	if sum != "" && last.Volume == p.String() && last.Manifest == sum && e.now.Sub(last.At) < expireEvery && !e.now.Before(last.At) {
		e.sound[p.String()] = sum
		return "", nil
	}
	r, err := volume.Verifier{Store: e.deps.Store, Records: e.deps.Bus, States: e.kv}.Verify(ctx, p)
	if err != nil {
		return "", err
	}
	if !r.Sound() {
		return fmt.Sprintf("%d problems, the first: %s", len(r.Problems)+r.More, r.Problems[0]), nil
	}
	e.sound[p.String()] = sum
	e.state.Verified = proof{Volume: p.String(), Manifest: sum, At: e.now}
	return "", e.writeState(ctx)
}

// log says what the timer removed, or why it did not.
func (e *expiry) log(x Expired) {
	level := zerolog.InfoLevel
	switch {
	case x.Failed:
		level = zerolog.ErrorLevel
	case x.Removed == 0:
		level = zerolog.DebugLevel
	}
	e.deps.Log.WithLevel(level).Str("class", x.Class).Str("period", x.Period).Int("removed", x.Removed).
		Int64("bytes", x.Bytes).Int("kept", x.Kept.Sum()).Str("reason", x.Why).Msg("retention")
}
