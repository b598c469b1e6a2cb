package policy

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
)

// Settings say what a Watcher follows and whom it tells.
type Settings[P Policy[P]] struct {
	Bus bus.Bus
	// Seed counts while the key does not exist, or as long as no good value came.
	Seed P
	// Metrics takes the numbers of the watcher. Nil means that nobody is told.
	Metrics prometheus.Registerer
	Log     zerolog.Logger
}

// Watcher follows a policy. It may be used concurrently.
type Watcher[P Policy[P]] struct {
	seed    P
	last    *P // counts where the first value is a bad one; nil after that
	log     zerolog.Logger
	current atomic.Pointer[P]
	sub     bus.Subscription
	changes *prometheus.CounterVec
}

// The outcomes of a change, as metric labels.
const (
	outcomeTaken   = "taken"
	outcomeRefused = "refused"
)

// Watch reads the policy of the seed's key and follows it until Stop. Error: bus.ErrNoStream
// where LLM_CONFIG does not exist.
func Watch[P Policy[P]](ctx context.Context, s Settings[P]) (*Watcher[P], error) {
	key := s.Seed.Key()
	w := &Watcher[P]{seed: s.Seed, log: s.Log.With().Str("policy", key).Logger()}
	w.current.Store(&s.Seed)
	var err error
	if w.changes, err = counter(s.Metrics, key); err != nil {
		return nil, err
	}
	kv, err := s.Bus.KV(ctx, contract.KVConfig)
	if err != nil {
		return nil, fmt.Errorf("follow the %s policy: %w", key, err)
	}
	last, err := lastGood(ctx, kv, s.Seed)
	if err != nil {
		return nil, err
	}
	w.last = &last
	if w.sub, err = kv.Watch(ctx, key, w.take); err != nil {
		return nil, fmt.Errorf("follow the %s policy: %w", key, err)
	}
	return w, nil
}

// counter returns the numbers that all watchers of a process share, with those of key at 0.
func counter(reg prometheus.Registerer, key string) (*prometheus.CounterVec, error) {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_policy_changes_total",
		Help: "Values of a policy that were read, by whether they took effect.",
	}, []string{"policy", "outcome"})
	if reg != nil {
		err := reg.Register(c)
		if there, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
			if same, ok := there.ExistingCollector.(*prometheus.CounterVec); ok {
				c, err = same, nil
			}
		}
		if err != nil {
			return nil, fmt.Errorf("register the numbers of the %s policy: %w", key, err)
		}
	}
	for _, o := range []string{outcomeTaken, outcomeRefused} {
		c.WithLabelValues(key, o)
	}
	return c, nil
}

// take lets a value take effect, if it is a good one. A key that is gone leaves what was
// there: nobody asked for anything else.
func (w *Watcher[P]) take(e bus.Entry) {
	last := w.last
	w.last = nil
	if e.Revision == 0 {
		return
	}
	p, err := w.seed.Parse(e.Value)
	if err != nil {
		w.changes.WithLabelValues(w.seed.Key(), outcomeRefused).Inc()
		log := w.log.Error().Uint64("revision", e.Revision)
		if refused, ok := errors.AsType[*RefusedError](err); ok {
			log = log.Interface("violations", refused.Violations)
		} else {
			log = log.Err(err)
		}
		log.Msg("policy refused, the one before it stays")
		if last != nil {
			w.current.Store(last)
		}
		return
	}
	w.current.Store(&p)
	w.changes.WithLabelValues(w.seed.Key(), outcomeTaken).Inc()
	w.log.Info().Uint64("revision", e.Revision).Msg("policy taken")
}

// Now returns the policy as it is now.
func (w *Watcher[P]) Now() P { return *w.current.Load() }

// Stop ends the watch; the policy stays as it is. Idempotent.
func (w *Watcher[P]) Stop() { w.sub.Stop() }
