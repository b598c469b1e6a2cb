package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/config"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/failpoint"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/telemetry"
)

// The exit codes of a stage.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2 // the settings are wrong
)

// firstPort is the HTTP port of the first stage of the line; the others follow in order.
const firstPort = 8081

// Main is the main function of a stage's binary: it runs the stage until SIGINT or SIGTERM,
// drains, and returns the exit code. A second signal ends the process at once.
func Main[C any](name string, build Build[C]) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// After the first signal the default action is back: the second one kills.
	context.AfterFunc(ctx, stop)

	d := Define(name, build)
	if len(os.Args) > 1 {
		return usage(d, os.Args[1:], os.Stdout, os.Stderr)
	}
	vars, err := config.Environ(os.Environ())
	if err != nil {
		err = &SettingsError{err}
	} else {
		err = Run(ctx, d, vars, zerolog.SyncWriter(os.Stderr))
	}
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, new(*SettingsError)):
		fmt.Fprintf(os.Stderr, "%s: the settings are wrong:\n%v\n", name, err)
		return exitUsage
	default:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return exitFailed
	}
}

// usage says how a stage's binary is run: it takes settings from the environment and no
// arguments.
func usage(d Definition, args []string, out, errs io.Writer) int {
	asked := slices.Contains([]string{"-h", "-help", "--help", "help"}, args[0])
	if !asked {
		fmt.Fprintf(errs, "%s: takes no arguments, but got %q; its settings come from the environment (%s --help lists them)\n", d.Stage, args[0], d.Stage)
		return exitUsage
	}
	fmt.Fprintf(out, "%s runs the %s stage until it gets SIGINT or SIGTERM.\n\nSettings, from the environment:\n", d.Stage, d.Stage)
	for _, list := range []func() ([]config.Param, error){config.Params[config.Common], config.Params[Config], d.Params} {
		params, err := list()
		if err != nil {
			fmt.Fprintf(errs, "%s: %v\n", d.Stage, err)
			return exitFailed
		}
		for _, p := range params {
			fmt.Fprintf(out, "  %-26s %s\n", p.Name, p.Default)
		}
	}
	return exitOK
}

// Run runs a stage on its own connections until ctx ends. Broker and store may come up
// later than it: it is alive at once, and ready when all is there.
func Run(ctx context.Context, d Definition, vars map[string]string, logs io.Writer) (err error) {
	c, err := config.Parse[config.Common](vars)
	if err = errors.Join(err, CheckSettings(vars, d)); err != nil {
		return &SettingsError{err}
	}
	views, err := SeedViews(vars)
	if err != nil {
		return &SettingsError{err}
	}
	log, err := telemetry.Logger(logs, c.LogLevel)
	if err != nil {
		return &SettingsError{err}
	}
	reg := prometheus.NewRegistry()
	var runner atomic.Pointer[Runner]
	server, err := telemetry.Serve(address(c, d.Stage), reg, func(ctx context.Context) map[string]error {
		if r := runner.Load(); r != nil {
			return r.Ready(ctx)
		}
		return map[string]error{"start": errors.New("waiting for the broker and the store")}
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()

	p, err := links{stage: d.Stage, common: c, views: views, metrics: reg, log: log}.connect(ctx)
	if err != nil {
		return stopped(ctx, err)
	}
	defer func() { err = errors.Join(err, p.close()) }()

	r, err := d.Runner(ctx, Shared{
		Vars: vars, Bus: p.bus, Store: p.store, Metrics: NewMetrics(reg, d.Stage), Process: &Process{}, Clock: failpoint.Now, Log: log,
		Policy: p.policy, Names: p.names,
	})
	if err != nil {
		return stopped(ctx, err)
	}
	runner.Store(r)
	return stopped(ctx, r.Run(ctx))
}

// stopped drops an error that only says that ctx ended.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// address returns where a stage answers over HTTP.
func address(c config.Common, s contract.Stage) string {
	if c.HTTPAddr != "" {
		return c.HTTPAddr
	}
	return fmt.Sprintf("127.0.0.1:%d", firstPort+max(slices.Index(contract.Stages(), s), 0))
}

// BusSettings says how to reach the broker that the settings name.
func BusSettings(c config.Common, name string, log zerolog.Logger) bus.Settings {
	n := c.NATS
	return bus.Settings{
		URL: n.URL, CredsFile: n.Creds, NKeyFile: n.NKeyFile, CAFile: n.CA, CertFile: n.Cert, KeyFile: n.Key,
		Name: "millrace-" + name, Log: log,
	}
}

// S3Settings says how to reach the object store that the settings name, whose buckets have
// the given names.
func S3Settings(c config.Common, names store.Names) store.S3Settings {
	return store.S3Settings{
		Endpoint: c.S3.Endpoint, AccessKey: string(c.S3.AccessKey), SecretKey: string(c.S3.SecretKey),
		Secure: c.S3.Secure, Region: c.S3.Region, Bucket: names.Physical(contract.BucketProcessed),
	}
}
