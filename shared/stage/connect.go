package stage

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/config"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/store"
)

// closeTimeout bounds how long the writer of objects is waited for at the end.
const closeTimeout = 2 * time.Second

// parts is what a stage in a process of its own is connected to.
type parts struct {
	bus     *bus.JetStream
	policy  *policy.Watcher
	store   *store.Writer
	names   store.Names
	closers []func() error // last opened, first closed
}

// SeedViews reads from the environment in which views documents are stored as long as the
// broker has no storage policy.
func SeedViews(vars map[string]string) ([]contract.View, error) {
	c, err := alone(vars, "STORE_VIEWS")
	return c.Views, err
}

// ReplayMax reads from the environment how often a document may be replayed.
func ReplayMax(vars map[string]string) (int, error) {
	c, err := alone(vars, "REPLAY_MAX")
	return c.ReplayMax, err
}

// alone reads one setting of stages: whoever asks for it may have others of no concern.
func alone(vars map[string]string, name string) (Config, error) {
	some := map[string]string{}
	if v, ok := vars[name]; ok {
		some[name] = v
	}
	return config.Parse[Config](some)
}

// links says what a stage in a process of its own connects to.
type links struct {
	stage   contract.Stage
	common  config.Common
	views   []contract.View // until there is a policy
	metrics prometheus.Registerer
	log     zerolog.Logger
}

// connect opens the broker, the policy and the store and waits until all answer. The policy
// comes before the store, whose buckets it names.
func (l links) connect(ctx context.Context) (p *parts, err error) {
	p = &parts{}
	log := l.log
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	err = await(ctx, log, "broker", func(ctx context.Context) (err error) {
		p.bus, err = bus.Connect(ctx, BusSettings(l.common, string(l.stage), log))
		return err
	})
	if err != nil {
		return p, err
	}
	p.closers = append(p.closers, p.bus.Close)
	err = await(ctx, log, "policy", func(ctx context.Context) (err error) {
		p.policy, err = policy.Watch(ctx, policy.Settings{Bus: p.bus, Seed: policy.Seed(l.views), Metrics: l.metrics, Log: log})
		return err
	})
	if err != nil {
		return p, err
	}
	p.closers = append(p.closers, func() error { p.policy.Stop(); return nil })
	p.names = p.policy.Storage().Buckets
	s3, err := store.OpenS3(ctx, S3Settings(l.common, p.names))
	if err != nil {
		return p, err
	}
	p.closers = append(p.closers, func() error { s3.Close(); return nil })
	err = await(ctx, log, "store", func(ctx context.Context) error {
		can, err := s3.Probe(ctx)
		if err == nil {
			log.Info().Interface("store", can).Msg("store probed")
		}
		return err
	})
	if err != nil {
		return p, err
	}
	p.store = store.NewWriter(store.Rename(s3, p.names), store.WriterSettings{})
	p.closers = append(p.closers, func() error {
		// What is acknowledged is stored, so nothing of value waits in the writer by now.
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		return p.store.Close(ctx)
	})
	return p, nil
}

func (p *parts) close() error {
	var errs []error
	for len(p.closers) > 0 {
		last := len(p.closers) - 1
		errs = append(errs, p.closers[last]())
		p.closers = p.closers[:last]
	}
	return errors.Join(errs...)
}
