package stage

import (
	"errors"
	"fmt"
	"time"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
)

// Config is what every stage reads from the environment about how it runs.
type Config struct {
	// MaxConcurrentTasks is how many documents a stage works on at once, at least 1. What
	// waits for the store or the broker does not count.
	MaxConcurrentTasks int `env:"MAX_CONCURRENT_TASKS" envDefault:"10"`
	// Prefetch is how many messages of each lane a stage holds at most, delivered and not
	// acknowledged, from 2 to 1000. It bounds what is done twice after a crash.
	Prefetch int `env:"PREFETCH" envDefault:"128"`
	// HandleTimeout is how long one attempt may take, from 1 s to 10 min.
	HandleTimeout time.Duration `env:"HANDLE_TIMEOUT" envDefault:"30s"`
	// DrainTimeout is how long a stopping stage finishes what it has in hand; 0 hands
	// everything back at once.
	DrainTimeout time.Duration `env:"DRAIN_TIMEOUT" envDefault:"10s"`
	// Attempts is how often a document is tried before it is a dead letter, from 1.
	Attempts int `env:"MAX_ATTEMPTS" envDefault:"4"`
	// RetryFirst is the pause before the first retry; it doubles with each further one.
	RetryFirst time.Duration `env:"RETRY_FIRST" envDefault:"1s"`
	// ClaimCheckBytes is the size of a body from which it travels as an object, from 1 KiB to
	// 4 MiB.
	ClaimCheckBytes int `env:"CLAIM_CHECK_BYTES" envDefault:"262144"`
	// Heartbeat is how often the broker is told that messages in hand are worked on. It must
	// be well below the acknowledgement wait of the consumers, 30 s.
	Heartbeat time.Duration `env:"HEARTBEAT" envDefault:"10s"`
	// Views are the views in which documents are stored, until there is a storage policy:
	// by_date, by_provider, by_task_type. provision and up make the policy of them, once;
	// afterwards millrace config set storage changes it.
	Views []contract.View `env:"STORE_VIEWS" envDefault:"by_date,by_provider,by_task_type"`
	// LedgerTTL is how long after its end a document is remembered, at least 1 min.
	LedgerTTL time.Duration `env:"LEDGER_TTL" envDefault:"48h"`
	// ReplayMax is how often a dead letter of a document may be sent through the line again,
	// from 1 to 1000. A replay with a higher count is refused, and one that comes through all
	// the same is a dead letter, rejected.
	ReplayMax int `env:"REPLAY_MAX" envDefault:"5"`
}

// layout is that of documents from the release before, which have none of their own.
func (c Config) layout() doc.Layout { return doc.NewLayout(c.Views, contract.Classes()) }

// Validate returns everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.MaxConcurrentTasks >= 1, "MAX_CONCURRENT_TASKS is %d, must be at least 1", c.MaxConcurrentTasks)
	check(c.Prefetch >= 2 && c.Prefetch <= 1000, "PREFETCH is %d, must be from 2 to 1000", c.Prefetch)
	check(c.HandleTimeout >= time.Second && c.HandleTimeout <= 10*time.Minute, "HANDLE_TIMEOUT is %s, must be from 1s to 10m", c.HandleTimeout)
	check(c.DrainTimeout >= 0, "DRAIN_TIMEOUT is %s, must not be negative", c.DrainTimeout)
	check(c.Attempts >= 1 && c.Attempts <= 16, "MAX_ATTEMPTS is %d, must be from 1 to 16", c.Attempts)
	check(c.RetryFirst > 0 && c.RetryFirst <= time.Hour, "RETRY_FIRST is %s, must be over 0 and at most 1h", c.RetryFirst)
	check(c.ClaimCheckBytes >= 1<<10 && c.ClaimCheckBytes <= 4<<20, "CLAIM_CHECK_BYTES is %d, must be from 1024 to 4194304", c.ClaimCheckBytes)
	check(c.Heartbeat >= time.Second && c.Heartbeat <= 15*time.Second, "HEARTBEAT is %s, must be from 1s to 15s", c.Heartbeat)
	check(c.LedgerTTL >= time.Minute, "LEDGER_TTL is %s, must be at least 1m", c.LedgerTTL)
	check(c.ReplayMax >= 1 && c.ReplayMax <= 1000, "REPLAY_MAX is %d, must be from 1 to 1000", c.ReplayMax)
	check(len(c.Views) > 0, "STORE_VIEWS is empty, at least one view must be kept")
	seen := map[contract.View]bool{}
	for _, v := range c.Views {
		known := v == contract.ByDate || v == contract.ByProvider || v == contract.ByTask
		check(known && !seen[v], "STORE_VIEWS names %q, each must be one of by_date, by_provider, by_task_type, once", v)
		seen[v] = true
	}
	return errors.Join(errs...)
}
