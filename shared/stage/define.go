package stage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/jobspy/millrace/shared/announce"
	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/config"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/store"
)

// Build makes a stage's handler from its own configuration.
type Build[C any] func(ctx context.Context, c C, d Deps) (Handler, error)

// Definition is a stage that can be run, in a process of its own or beside others.
type Definition struct {
	Stage  contract.Stage
	build  func(ctx context.Context, vars map[string]string, d Deps) (Handler, error)
	check  func(vars map[string]string) error
	params func() ([]config.Param, error)
}

// SettingsError is something wrong with the settings.
type SettingsError struct{ cause error }

func (e *SettingsError) Error() string { return e.cause.Error() }

// Unwrap returns all that is wrong, joined.
func (e *SettingsError) Unwrap() error { return e.cause }

// CheckSettings reads the settings of stages and returns a SettingsError that lists
// everything that is wrong with them.
func CheckSettings(vars map[string]string, stages ...Definition) error {
	_, err := config.Parse[Config](vars)
	errs := []error{err}
	for _, d := range stages {
		errs = append(errs, d.check(vars))
	}
	if err := errors.Join(errs...); err != nil {
		return &SettingsError{err}
	}
	return nil
}

// Define names a stage and says how its handler is made.
func Define[C any](name string, build Build[C]) Definition {
	return Definition{
		Stage: contract.Stage(name),
		build: func(ctx context.Context, vars map[string]string, d Deps) (Handler, error) {
			c, err := config.Parse[C](vars)
			if err != nil {
				return nil, err
			}
			return build(ctx, c, d)
		},
		check: func(vars map[string]string) error {
			_, err := config.Parse[C](vars)
			return err
		},
		params: config.Params[C],
	}
}

// Params lists the stage's own settings.
func (d Definition) Params() ([]config.Param, error) { return d.params() }

// Shared is what the stages of one process have in common.
type Shared struct {
	Vars    map[string]string // the environment
	Bus     bus.Bus
	Store   store.Store
	Metrics *Metrics
	Process *Process
	Clock   func() time.Time
	Log     zerolog.Logger
	// Policy is followed where it is set; nil leaves the policy as STORE_VIEWS has it.
	Policy *policy.Watcher
	// Names are those with which Store was renamed.
	Names store.Names
}

// Runner makes the runner of the stage. It checks all settings first and then waits until
// the ledger exists.
func (d Definition) Runner(ctx context.Context, s Shared) (*Runner, error) {
	c, err := config.Parse[Config](s.Vars)
	if err != nil {
		return nil, err
	}
	if s.Process == nil {
		s.Process = &Process{}
	}
	deps := Deps{
		Bus: s.Bus, Store: announce.NewStore(s.Store, s.Bus, contract.StoredSubject(d.Stage)),
		Clock: s.Clock, Log: s.Log, Names: s.Names, ReplayMax: c.ReplayMax,
	}
	if s.Policy != nil {
		deps.Policy = s.Policy.Storage
	} else {
		seed := policy.Seed(c.Views)
		deps.Policy = func() policy.Storage { return seed }
	}
	var witness *announce.Witness
	if d.Stage == contract.Archive { // it alone waits for what others store
		witness = announce.NewWitness(0)
		deps.Announced = witness
	}
	err = await(ctx, s.Log, "ledger", func(ctx context.Context) (err error) {
		deps.Ledger, err = ledger.OpenLedger(ctx, s.Bus, c.LedgerTTL, s.Clock)
		if err == nil {
			deps.Ledger.Share(&s.Process.ledger)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	h, err := d.build(ctx, s.Vars, deps)
	if err != nil {
		return nil, fmt.Errorf("make stage %s: %w", d.Stage, err)
	}
	return NewRunner(Settings{
		Stage: d.Stage, Handler: h, Deps: deps, Config: c, Metrics: s.Metrics, Process: s.Process, Witness: witness,
	}), nil
}

// await calls f until it succeeds, with growing pauses; it ends early only with ctx. It says
// once what it waits for and why, and again when the reason changes.
func await(ctx context.Context, log zerolog.Logger, what string, f func(context.Context) error) error {
	said := ""
	for pause := holdFirst; ; pause = min(2*pause, holdMost) {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if err.Error() != said {
			said = err.Error()
			log.Warn().Err(err).Str("waiting_for", what).Msg("not there yet")
		}
		if stopped := sleep(ctx, jitter(pause)); stopped != nil {
			return fmt.Errorf("wait for %s: %w (%w)", what, err, stopped)
		}
	}
}
