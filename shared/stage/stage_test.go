package stage_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// waitFor bounds how long a test waits for what must happen.
const waitFor = 20 * time.Second

// handle is a handler made of a function.
type handle func(ctx context.Context, in *doc.Document) ([]stage.Output, error)

func (h handle) Handle(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
	return h(ctx, in)
}

// rig is a validate stage with a handler of the test's own, on a real broker.
type rig struct {
	t      *testing.T
	bus    *bus.JetStream
	store  *flaky
	ledger *ledger.Ledger
	stop   func()
	runner *stage.Runner
}

// flaky is a store that can be taken down.
type flaky struct {
	store.Store
	down atomic.Bool
	puts atomic.Int64
}

var errDown = errors.New("the store is down")

func (f *flaky) Put(ctx context.Context, objects ...store.Object) []error {
	f.puts.Add(1)
	if f.down.Load() {
		errs := make([]error, len(objects))
		for i := range errs {
			errs[i] = errDown
		}
		return errs
	}
	return f.Store.Put(ctx, objects...)
}

type options struct {
	topology topology.Options
	config   func(*stage.Config)
	stage    contract.Stage
	bus      *bus.JetStream

	replayMax int
}

func config() stage.Config {
	return stage.Config{
		MaxConcurrentTasks: 4, Prefetch: 8, HandleTimeout: time.Second, DrainTimeout: 5 * time.Second,
		Attempts: 4, RetryFirst: time.Millisecond, ClaimCheckBytes: 256 << 10, Heartbeat: time.Second,
		Views: contract.Views(), LedgerTTL: time.Hour,
	}
}

func setup(t *testing.T, o options, h stage.Handler) *rig {
	t.Helper()
	r := &rig{t: t, bus: o.bus, store: &flaky{Store: store.NewMemory(time.Now)}}
	if r.bus == nil {
		r.bus = bustest.JetStream(t, o.topology)
	}
	for _, b := range contract.Buckets() {
		_, err := r.store.EnsureBucket(t.Context(), b)
		require.NoError(t, err)
	}
	c := config()
	if o.config != nil {
		o.config(&c)
	}
	if o.stage == "" {
		o.stage = contract.Validate
	}
	var err error
	r.ledger, err = ledger.OpenLedger(t.Context(), r.bus, c.LedgerTTL, time.Now)
	require.NoError(t, err)
	r.runner = stage.NewRunner(stage.Settings{
		Stage: o.stage, Handler: h, Config: c,
		Deps: stage.Deps{
			Ledger: r.ledger, Bus: r.bus, Store: r.store, Clock: time.Now, Log: zerolog.New(zerolog.NewTestWriter(t)),
			ReplayMax: o.replayMax,
		},
		Metrics: stage.NewMetrics(prometheus.NewRegistry(), o.stage),
	})
	r.start()
	return r
}

func (r *rig) start() {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := r.runner.Run(ctx); err != nil {
			r.t.Error(err)
		}
	})
	r.stop = sync.OnceFunc(func() { cancel(); done.Wait() })
	r.t.Cleanup(r.stop)
}

// envelope returns a document as it lies in a queue.
func envelope(id string) *doc.Document {
	d := &doc.Document{Lane: contract.Normal, Name: id + ".json", Attempt: 1}
	d.Metadata = doc.Metadata{
		FileID: id, CreatedAt: time.Date(2025, 1, 27, 14, 30, 52, 0, time.UTC),
		TaskType: "job_extraction", Provider: "openai", Schema: "job_extraction/1",
	}
	d.Content = []byte(`{"jobs":[]}`)
	return d
}

func (r *rig) send(d *doc.Document) []byte {
	r.t.Helper()
	body, err := d.Encode()
	require.NoError(r.t, err)
	h := d.Headers(contract.Ingest)
	h["X-Other"] = "from outside"
	_, err = r.bus.Publish(r.t.Context(), bus.Message{
		Subject: contract.StageSubject(contract.Validate, d.Lane, d.Metadata.TaskType, d.Metadata.Provider), Header: h, Body: body,
	})
	require.NoError(r.t, err)
	return body
}

// all returns what lies in a stream.
func (r *rig) all(stream string) []*bus.Stored {
	r.t.Helper()
	var out []*bus.Stored
	for m, err := range r.bus.Scan(r.t.Context(), stream, "", 0) {
		require.NoError(r.t, err)
		out = append(out, m)
	}
	return out
}

// until waits until n messages lie in a stream.
func (r *rig) until(stream string, n int) []*bus.Stored {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return len(r.all(stream)) == n }, waitFor, 5*time.Millisecond, "%d messages in %s", n, stream)
	return r.all(stream)
}

// next returns an output for enrich.
func next(in *doc.Document) []stage.Output {
	return []stage.Output{{To: contract.Enrich, Doc: in.Next()}}
}
