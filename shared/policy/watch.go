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
type Settings struct {
	Bus bus.Bus
	// Seed counts while the key does not exist, or as long as no good value came.
	Seed Storage
	// Metrics takes the numbers of the watcher. Nil means that nobody is told.
	Metrics prometheus.Registerer
	Log     zerolog.Logger
}

// Watcher follows the storage policy. It may be used concurrently.
type Watcher struct {
	seed    Storage
	last    *Storage // counts where the first value is a bad one; nil after that
	log     zerolog.Logger
	current atomic.Pointer[Storage]
	sub     bus.Subscription
	changes *prometheus.CounterVec
}

// The outcomes of a change, as metric labels.
const (
	outcomeTaken   = "taken"
	outcomeRefused = "refused"
)

// Watch reads the storage policy and follows it until Stop. Error: bus.ErrNoStream where
// LLM_CONFIG does not exist.
func Watch(ctx context.Context, s Settings) (*Watcher, error) {
	w := &Watcher{seed: s.Seed, log: s.Log.With().Str("policy", KeyStorage).Logger()}
	w.current.Store(&s.Seed)
	w.changes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_policy_changes_total",
		Help: "Values of a policy that were read, by whether they took effect.",
	}, []string{"policy", "outcome"})
	for _, o := range []string{outcomeTaken, outcomeRefused} {
		w.changes.WithLabelValues(KeyStorage, o)
	}
	kv, err := s.Bus.KV(ctx, contract.KVConfig)
	if err != nil {
		return nil, fmt.Errorf("follow the storage policy: %w", err)
	}
	last, err := lastGood(ctx, kv, s.Seed)
	if err != nil {
		return nil, err
	}
	w.last = &last
	if w.sub, err = kv.Watch(ctx, KeyStorage, w.take); err != nil {
		return nil, fmt.Errorf("follow the storage policy: %w", err)
	}
	if s.Metrics != nil {
		if err := s.Metrics.Register(w.changes); err != nil {
			w.Stop()
			return nil, fmt.Errorf("register the numbers of the storage policy: %w", err)
		}
	}
	return w, nil
}

// take lets a value take effect, if it is a good one. A key that is gone leaves what was
// there: nobody asked for anything else.
func (w *Watcher) take(e bus.Entry) {
	last := w.last
	w.last = nil
	if e.Revision == 0 {
		return
	}
	s, err := ParseStorage(e.Value, w.seed)
	if err != nil {
		w.changes.WithLabelValues(KeyStorage, outcomeRefused).Inc()
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
	w.current.Store(&s)
	w.changes.WithLabelValues(KeyStorage, outcomeTaken).Inc()
	w.log.Info().Uint64("revision", e.Revision).Stringer("layout", s.Layout()).Msg("policy taken")
}

// Storage returns the policy as it is now.
func (w *Watcher) Storage() Storage { return *w.current.Load() }

// Stop ends the watch; the policy stays as it is. Idempotent.
func (w *Watcher) Stop() { w.sub.Stop() }
