// Package up runs the whole line in one process: an embedded broker, an embedded object
// store over a plain folder, and all stages.
package up

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/jobspy/millrace/deploy/millrace/embedded"
	"github.com/jobspy/millrace/deploy/millrace/line"
	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/failpoint"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/telemetry"
	"github.com/jobspy/millrace/shared/topology"
)

// drain bounds how long the stages finish what they have in hand when the process stops, so
// that Ctrl-C ends it within five seconds. A longer DRAIN_TIMEOUT counts where it is set.
const drain = "3s"

// syncGap is the least time between two syncs of the object store's folder under load.
const syncGap = 20 * time.Millisecond

// Config says where everything is kept and answers.
type Config struct {
	Dir      string            // data folder; made if missing
	NATSAddr string            // host:port of the broker
	S3Addr   string            // host:port of the object store
	HTTPAddr string            // host:port of health and metrics
	Vars     map[string]string // the environment
	// Store names an object store to use instead of the embedded one. It must have room for
	// the buckets of the line. Nil means the embedded one.
	Store   *store.S3Settings
	Logs    io.Writer     // takes JSON lines from LogLevel on
	Level   zerolog.Level // what the files keep
	Console zerolog.Level // what Logs gets
}

// Instance is a running line.
type Instance struct {
	Dir                        string
	Bus                        *bus.JetStream
	Store                      store.Store // the gathering writer of the stages
	Objects                    store.Store // the store below it
	NATSAddr, S3Addr, HTTPAddr string
	Ready                      func(ctx context.Context) map[string]error

	access, secret string
	monitoring     http.Handler
	policy         *policy.Watcher
	names          store.Names
}

// credentials are the lines of the credentials file.
func (i *Instance) credentials() map[string]string {
	return map[string]string{
		"S3_ACCESS_KEY": i.access, "S3_SECRET_KEY": i.secret, "S3_REGION": "us-east-1",
		"S3_ENDPOINT": i.S3Addr, "NATS_URL": "nats://" + i.NATSAddr, "NATS_MONITOR_URL": "http://" + i.HTTPAddr,
	}
}

// Run starts everything, calls started once all stages are ready, and stops everything when
// ctx ends or started returns an error. started may be nil.
func Run(ctx context.Context, c Config, started func(ctx context.Context, i *Instance) error) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	var closers []func() error // last opened, first closed
	defer func() {
		for _, closer := range slices.Backward(closers) {
			err = errors.Join(err, closer())
		}
	}()
	// The embedded store changes the working directory, so no path may stay relative.
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return fmt.Errorf("find the data folder: %w", err)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	if err := stage.CheckSettings(c.Vars, line.Stages()...); err != nil {
		return err
	}
	files := openLogs(filepath.Join(c.Dir, "logs"), c.Logs, c.Level, c.Console)
	closers = append(closers, files.close)

	reg := prometheus.NewRegistry()
	i, closeParts, err := open(ctx, &c, files, reg)
	closers = append(closers, closeParts...)
	if err != nil {
		return err
	}
	running := &group{}
	i.Ready = running.ready
	server, err := telemetry.Serve(c.HTTPAddr, reg, running.ready, telemetry.Page{Path: "/jsz", Handler: i.monitoring})
	if err != nil {
		return err
	}
	closers = append(closers, server.Stop)
	i.HTTPAddr = server.Addr()
	if err := writeCredentials(c.Dir, i.credentials()); err != nil {
		return err
	}

	if err := running.start(ctx, c, i, reg, files); err != nil {
		return err
	}
	closers = append(closers, func() error { cancel(nil); return running.wait() })

	if err := running.awaitReady(ctx); err != nil {
		return stopped(ctx, err)
	}
	if started != nil {
		if err := started(ctx, i); err != nil {
			return stopped(ctx, err)
		}
	}
	<-ctx.Done()
	return nil
}

// ErrEnough is what a started function returns to end the line without an error.
var ErrEnough = errors.New("the line has done what it was started for")

// stopped drops an error that only says that the line was asked to stop.
func stopped(ctx context.Context, err error) error {
	if errors.Is(err, ErrEnough) || (ctx.Err() != nil && errors.Is(err, context.Cause(ctx))) {
		return nil
	}
	return err
}

// open starts broker and store, makes streams, consumers and buckets, and connects to both.
// It returns what has to be closed even where it fails.
func open(ctx context.Context, c *Config, files *logs, reg prometheus.Registerer) (*Instance, []func() error, error) {
	var closers []func() error
	log := files.part(logScheduler)
	access, secret, err := keys(c.Dir, c.Vars)
	if err != nil {
		return nil, nil, err
	}
	if c.Store != nil {
		access, secret = c.Store.AccessKey, c.Store.SecretKey
	}
	broker, err := embedded.StartBroker(embedded.BrokerConfig{Dir: filepath.Join(c.Dir, "nats"), Addr: c.NATSAddr, Log: log})
	if err != nil {
		return nil, nil, err
	}
	closers = append(closers, broker.Stop)
	objects, err := openStore(ctx, c, access, secret)
	if err != nil {
		return nil, closers, err
	}
	closers = append(closers, objects.stop)
	b, err := bus.Connect(ctx, bus.Settings{InProcess: broker, Name: "millrace-up", Log: log})
	if err != nil {
		return nil, closers, err
	}
	closers = append(closers, b.Close)
	follow, err := provision(ctx, c, b, policy.Settings{Bus: b, Metrics: reg, Log: log})
	if err != nil {
		return nil, closers, err
	}
	closers = append(closers, func() error { follow.Stop(); return nil })
	names := follow.Storage().Buckets
	objects.Store = store.Rename(objects.Store, names)
	for _, bucket := range contract.Buckets() {
		if _, err := objects.EnsureBucket(ctx, bucket); err != nil {
			return nil, closers, fmt.Errorf("provision the store: %w", err)
		}
	}
	if err := objects.probe(ctx); err != nil {
		return nil, closers, err
	}
	w := store.NewWriter(objects.Store, store.WriterSettings{})
	closers = append(closers, func() error {
		// What is acknowledged is stored, so nothing of value waits in the writer by now.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return w.Close(ctx)
	})
	return &Instance{
		Dir: c.Dir, Bus: b, Store: w, Objects: objects.Store, NATSAddr: broker.Addr(), S3Addr: objects.addr,
		access: access, secret: secret, monitoring: broker.Monitoring(), policy: follow, names: names,
	}, closers, nil
}

// provision makes streams, consumers and the storage policy, and follows that. The streams
// take no more than half of what is free on the disk.
func provision(ctx context.Context, c *Config, b *bus.JetStream, s policy.Settings) (*policy.Watcher, error) {
	var disk unix.Statfs_t
	if err := unix.Statfs(c.Dir, &disk); err != nil {
		return nil, fmt.Errorf("read the free space of %s: %w", c.Dir, err)
	}
	free := int64(disk.Bavail) * disk.Bsize //nolint:gosec // no disk has 2^63 blocks
	o := topology.Options{Disk: min(topology.DefaultDisk, free/2)}
	if _, err := topology.Apply(ctx, b.JetStream(), topology.Plan(o), false); err != nil {
		return nil, fmt.Errorf("provision the broker: %w", err)
	}
	views, err := stage.SeedViews(c.Vars)
	if err != nil {
		return nil, err
	}
	s.Seed = policy.Seed(views)
	if _, err := policy.Plant(ctx, b, s.Seed); err != nil {
		return nil, fmt.Errorf("provision the broker: %w", err)
	}
	return policy.Watch(ctx, s)
}

// group is the stages of the line.
type group struct {
	mu      sync.Mutex
	runners []*stage.Runner
	started atomic.Bool
	working sync.WaitGroup
	errs    []error
}

func (g *group) start(ctx context.Context, c Config, i *Instance, reg prometheus.Registerer, files *logs) error {
	vars := map[string]string{"DRAIN_TIMEOUT": drain}
	maps.Copy(vars, c.Vars)
	shared := stage.Shared{
		Vars: vars, Bus: i.Bus, Store: i.Store, Metrics: stage.NewMetrics(reg, contract.Stages()...),
		Process: &stage.Process{}, Clock: failpoint.Now, Policy: i.policy, Names: i.names,
	}
	for _, d := range line.Stages() {
		shared.Log = files.stage(d.Stage)
		r, err := d.Runner(ctx, shared)
		if err != nil {
			return err
		}
		g.mu.Lock()
		g.runners = append(g.runners, r)
		g.mu.Unlock()
	}
	for _, r := range g.runners {
		g.working.Go(func() {
			if err := r.Run(ctx); err != nil && ctx.Err() == nil {
				g.mu.Lock()
				g.errs = append(g.errs, err)
				g.mu.Unlock()
			}
		})
	}
	g.started.Store(true)
	return nil
}

// wait returns when all stages have stopped.
func (g *group) wait() error {
	g.working.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	return errors.Join(g.errs...)
}

// ready speaks for all stages.
func (g *group) ready(ctx context.Context) map[string]error {
	if !g.started.Load() {
		return map[string]error{"start": errors.New("the line is starting")}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	problems := map[string]error{}
	for _, r := range g.runners {
		for what, err := range r.Ready(ctx) {
			problems[string(r.Stage)+": "+what] = err
		}
	}
	return problems
}

// readyPoll is how often the stages are asked whether they are ready at start.
const readyPoll = 20 * time.Millisecond

func (g *group) awaitReady(ctx context.Context) error {
	t := time.NewTicker(readyPoll)
	defer t.Stop()
	for {
		if len(g.ready(ctx)) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
		}
	}
}
