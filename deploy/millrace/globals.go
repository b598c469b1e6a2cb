package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"github.com/jobspy/millrace/deploy/millrace/up"
	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/config"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
)

// connectWait is how long a command waits for the broker before it says that it is not there.
const connectWait = 5 * time.Second

// globals is what all commands share. Only the goroutine of the command opens connections.
type globals struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            map[string]string // the environment, secrets read from their files

	common config.Common // set for commands that have a connection
	data   string        // data folder of a local "up", as an absolute path
	opened *bus.JetStream
	// objects is the object store once it was opened.
	objects *objectStore
	// live is the storage policy, for what takes so long that it may change meanwhile.
	live *policy.Watcher
}

// connection holds the flags of every command that talks to the broker or the store.
type connection struct {
	Nats string `help:"Broker, instead of NATS_URL." placeholder:"URL"`
	S3   string `help:"Object store, instead of S3_ENDPOINT." placeholder:"HOST:PORT"`
	Data string `help:"Data folder of a running \"millrace up\"; its credentials.env gives what the environment does not; .millrace unless given." placeholder:"DIR"`
}

// defaultData is the data folder that is looked into where none is named.
const defaultData = ".millrace"

// AfterApply settles where broker and store are: flags win over the environment, and that
// over what a local "up" has written down.
func (c *connection) AfterApply(g *globals) error {
	named := c.Data != ""
	if !named {
		c.Data = defaultData
	}
	dir, err := filepath.Abs(c.Data)
	if err != nil {
		return usagef("find the data folder %q: %w", c.Data, err)
	}
	g.data = dir
	vars := map[string]string{}
	maps.Copy(vars, g.env)
	if named || vars["S3_ACCESS_KEY"] == "" && vars["S3_SECRET_KEY"] == "" {
		kept, err := up.ReadCredentials(dir)
		if err != nil {
			return &exitError{code: exitUsage, err: err}
		}
		// Whoever names a folder means the line that runs there, not the one at the default
		// address, which may be somebody else's.
		if named && len(kept) == 0 && c.Nats == "" && vars["NATS_URL"] == "" {
			return usagef("--data: %s has no %s: no \"millrace up\" runs there, and NATS_URL is not set", dir, up.CredentialsFile)
		}
		for name, value := range kept {
			if vars[name] == "" {
				vars[name] = value
			}
		}
	}
	if c.Nats != "" {
		vars["NATS_URL"] = c.Nats
	}
	if c.S3 != "" {
		vars["S3_ENDPOINT"] = c.S3
	}
	common, err := config.Parse[config.Common](vars)
	if err != nil {
		return usagef("the settings are wrong: %w", err)
	}
	g.common, g.env = common, vars
	return nil
}

// bus connects to the broker at the first call.
func (g *globals) bus(ctx context.Context) (*bus.JetStream, error) {
	if g.opened != nil {
		return g.opened, nil
	}
	s := stage.BusSettings(g.common, "cli", zerolog.Nop())
	s.FirstWait = connectWait
	b, err := bus.Connect(ctx, s)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = fault.Down(fmt.Errorf("no answer within %s, is it running?", connectWait))
	}
	if err != nil {
		return nil, fmt.Errorf("broker %s: %w", g.common.NATS.URL, err)
	}
	g.opened = b
	return b, nil
}

// objectStore is the object store as the line sees it: its buckets have our names.
type objectStore struct {
	store.Store

	s3    *store.S3
	names store.Names
}

// Probe implements operate.ProbedStore.
func (o *objectStore) Probe(ctx context.Context) (store.Capabilities, error) { return o.s3.Probe(ctx) }

// Versions implements store.Versioner.
func (o *objectStore) Versions(ctx context.Context, bucket string) (store.Versions, error) {
	return o.s3.Versions(ctx, o.names.Physical(bucket))
}

// Erase implements store.Versioner.
func (o *objectStore) Erase(ctx context.Context, bucket, prefix string) error {
	return o.s3.Erase(ctx, o.names.Physical(bucket), prefix)
}

// GetRange implements store.Ranger.
func (o *objectStore) GetRange(ctx context.Context, r store.Ref, offset, n int64) ([]byte, error) {
	return store.GetRange(ctx, o.Store, r, offset, n)
}

// seed is the storage policy of a line that has none yet.
func (g *globals) seed() (policy.Storage, error) {
	views, err := stage.SeedViews(g.env)
	if err != nil {
		return policy.Storage{}, usagef("the settings are wrong: %w", err)
	}
	return policy.Seed(views), nil
}

// policy reads the storage policy.
func (g *globals) policy(ctx context.Context) (policy.Kept, error) {
	seed, err := g.seed()
	if err != nil {
		return policy.Kept{}, err
	}
	b, err := g.bus(ctx)
	if err != nil {
		return policy.Kept{}, err
	}
	return policy.Read(ctx, b, seed)
}

// store opens the object store at the first call, with the names that the policy gives its
// buckets; whether it answers shows at the first use.
func (g *globals) store(ctx context.Context) (*objectStore, error) {
	if g.objects != nil {
		return g.objects, nil
	}
	kept, err := g.policy(ctx)
	if err != nil {
		return nil, err
	}
	return g.openStore(ctx, kept.Buckets)
}

// openStore opens the object store whose buckets have the given names.
func (g *globals) openStore(ctx context.Context, names store.Names) (*objectStore, error) {
	if g.common.S3.AccessKey == "" || g.common.S3.SecretKey == "" {
		return nil, usagef("object store %s: S3_ACCESS_KEY and S3_SECRET_KEY are not set, and %s has no %s",
			g.common.S3.Endpoint, g.data, up.CredentialsFile)
	}
	s, err := store.OpenS3(ctx, stage.S3Settings(g.common, names))
	if err != nil {
		return nil, usagef("object store %s: %w", g.common.S3.Endpoint, err)
	}
	g.objects = &objectStore{Store: store.Rename(s, names), s3: s, names: names}
	return g.objects, nil
}

// ledger opens the ledger for reading, and for the marks of replays.
func (g *globals) ledger(ctx context.Context) (*ledger.Ledger, error) { return g.ledgerFor(ctx, 0) }

// ledgerFor opens the ledger for writing too: what has ended leaves after ttl.
func (g *globals) ledgerFor(ctx context.Context, ttl time.Duration) (*ledger.Ledger, error) {
	b, err := g.bus(ctx)
	if err != nil {
		return nil, err
	}
	l, err := ledger.OpenLedger(ctx, b, ttl, time.Now)
	if errors.Is(err, bus.ErrNoStream) {
		return nil, fmt.Errorf("%w (run millrace provision first)", err)
	}
	return l, err
}

// close closes what was opened.
func (g *globals) close() error {
	if g.live != nil {
		g.live.Stop()
	}
	if g.objects != nil {
		g.objects.s3.Close()
	}
	if g.opened != nil {
		return g.opened.Close()
	}
	return nil
}
