package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config says what a run is made of.
type Config struct {
	Bin    string   // folder of the programs of the line, built with the tag chaos
	NATS   string   // path of nats-server
	MinIO  string   // path of MinIO
	Before string   // folder of the programs of the release before, empty where there are none
	Dir    string   // folder of the run: data, logs
	Env    []string // further settings of the line, such as STORE_VIEWS
	Out    io.Writer
}

const (
	startWait = 60 * time.Second // for everything to be ready
	poll      = 100 * time.Millisecond

	hastenPause = 3 * time.Second // between two looks at whether the line is still hastened

	// What the consumers of the line are set to, so that a stopped process is outlived and a
	// killing document found out in seconds. The heartbeat has to fit.
	rigAckWait    = 6 * time.Second
	rigMaxDeliver = 8
	rigHeartbeat  = "HEARTBEAT=2s"
	// Small parts, so that archives are written while things fail.
	rigArchive = "ARCHIVE_PART_DOCUMENTS=200"
	// A join's deadline stays in its queue until it is due, and the line is at rest after that.
	rigJoin = "JOIN_DEADLINE=8s"

	accessKey, secretKey = "chaos", "chaos-secret"
)

// rig is the line as processes, with everything between them that can be hurt.
type rig struct {
	Config
	disks  int64 // bytes of each file system in memory that has data; 0: it is on the disk
	env    []string
	points string // folder of armed failpoints

	broker, store, line *process // line is all in one
	stages              map[string]*process
	brokerLink          *link
	storeLink           *link
	storeProxy          *storeProxy
	brokerDisk          *disk
	storeDisk           *disk

	natsAddr, s3Addr string // direct
	ready            []string

	nc  *nats.Conn
	js  jetstream.JetStream
	s3  *minio.Client
	end []func() // last made, first called

	locks sync.Map // by what a fault is about
}

// start brings everything up and returns when all are ready.
func start(ctx context.Context, c Config, p Plan, rate float64) (r *rig, err error) {
	r = &rig{Config: c, disks: disksFor(&p, rate), stages: map[string]*process{}, points: filepath.Join(c.Dir, "points")}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	for _, dir := range []string{"points", "logs", "nats", "store"} {
		if err := os.MkdirAll(filepath.Join(c.Dir, dir), 0o700); err != nil {
			return r, err
		}
	}
	if err := os.WriteFile(filepath.Join(r.points, "poison"), nil, 0o600); err != nil {
		return r, err
	}
	r.env = append(os.Environ(),
		"S3_ACCESS_KEY="+accessKey, "S3_SECRET_KEY="+secretKey, "MINIO_ROOT_USER="+accessKey, "MINIO_ROOT_PASSWORD="+secretKey,
		"CHAOS_DIR="+r.points, "SOURCE_GREENHOUSE_URL=https://unreachable.invalid", rigHeartbeat, rigArchive, rigJoin)
	r.env = append(r.env, c.Env...)
	if p.Topology == Up {
		return r, r.startUp(ctx)
	}
	return r, r.startStages(ctx)
}

// run adds a program and starts it.
func (r *rig) run(name, path string, env []string, args ...string) (*process, error) {
	p := &process{name: name, path: path, args: args, env: env, log: filepath.Join(r.Dir, "logs", name+".log")}
	r.end = append(r.end, p.close)
	return p, p.start()
}

// startStages starts a broker, a store and a process for each stage.
func (r *rig) startStages(ctx context.Context) (err error) {
	if r.brokerDisk, err = r.disk("nats"); err != nil {
		return err
	}
	if r.storeDisk, err = r.disk("store"); err != nil {
		return err
	}
	if err := r.startServers(); err != nil {
		return err
	}
	if err := r.connect(ctx); err != nil {
		return err
	}
	env := append(slices.Clip(r.env), "NATS_URL=nats://"+r.brokerLink.addr(), "S3_ENDPOINT="+r.storeLink.addr())
	r.env = env
	if _, err := r.command(ctx, "provision", "--wait", "60s"); err != nil {
		return err
	}
	if err := r.hasten(ctx); err != nil {
		return err
	}
	for _, s := range stageNames() {
		addr, err := freeAddr(ctx)
		if err != nil {
			return err
		}
		r.ready = append(r.ready, addr)
		p, err := r.run(s, filepath.Join(r.Bin, s), append(slices.Clip(env), "HTTP_ADDR="+addr))
		if err != nil {
			return err
		}
		r.stages[s] = p
	}
	return r.awaitReady(ctx)
}

// disk puts a folder of the run on a file system in memory, where these are made.
func (r *rig) disk(name string) (*disk, error) {
	if r.disks == 0 {
		return nil, nil //nolint:nilnil // the folder itself will do
	}
	d, err := newDisk(filepath.Join(r.Dir, name), r.disks)
	if err == nil {
		r.end = append(r.end, d.close)
	}
	return d, err
}

// startServers starts broker and store and what stands before them.
func (r *rig) startServers() (err error) {
	ctx := context.Background()
	if r.natsAddr, err = freeAddr(ctx); err != nil {
		return err
	}
	if r.s3Addr, err = freeAddr(ctx); err != nil {
		return err
	}
	console, err := freeAddr(ctx)
	if err != nil {
		return err
	}
	conf := filepath.Join(r.Dir, "nats.conf")
	text := fmt.Sprintf("listen: %s\nmax_payload: 8388608\njetstream { store_dir: '%s', sync_interval: always, max_file_store: 20GB }\n",
		r.natsAddr, filepath.Join(r.Dir, "nats"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	if r.broker, err = r.run("nats-server", r.NATS, r.env, "-c", conf); err != nil {
		return err
	}
	r.store, err = r.run("minio", r.MinIO, r.env, "server", filepath.Join(r.Dir, "store"), "--address", r.s3Addr, "--console-address", console, "--quiet")
	if err != nil {
		return err
	}
	if r.storeProxy, err = newStoreProxy(r.s3Addr); err != nil {
		return err
	}
	r.end = append(r.end, r.storeProxy.close)
	if r.brokerLink, err = newLink("broker", r.natsAddr); err != nil {
		return err
	}
	r.end = append(r.end, r.brokerLink.close)
	if r.storeLink, err = newLink("store", r.storeProxy.addr); err != nil {
		return err
	}
	r.end = append(r.end, r.storeLink.close)
	return nil
}

// startUp starts everything in one process.
func (r *rig) startUp(ctx context.Context) (err error) {
	if r.natsAddr, err = freeAddr(ctx); err != nil {
		return err
	}
	if r.s3Addr, err = freeAddr(ctx); err != nil {
		return err
	}
	addr, err := freeAddr(ctx)
	if err != nil {
		return err
	}
	if _, err := r.disk("data"); err != nil {
		return err
	}
	r.ready = []string{addr}
	r.line, err = r.run("millrace", filepath.Join(r.Bin, "millrace"), r.env,
		"up", "--data", filepath.Join(r.Dir, "data"), "--nats", r.natsAddr, "--s3", r.s3Addr, "--http", addr)
	if err != nil {
		return err
	}
	r.env = append(slices.Clip(r.env), "NATS_URL=nats://"+r.natsAddr, "S3_ENDPOINT="+r.s3Addr)
	if err := errors.Join(r.connect(ctx), r.awaitReady(ctx), r.hasten(ctx)); err != nil {
		return err
	}
	hastening, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { r.hastening(hastening) })
	r.end = append(r.end, func() { stop(); done.Wait() })
	return nil
}

// connect opens the witness's own connections, which nothing hurts.
func (r *rig) connect(ctx context.Context) (err error) {
	r.nc, err = nats.Connect("nats://"+r.natsAddr, nats.Name("witness"), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true),
		nats.ReconnectWait(200*time.Millisecond), nats.ReconnectBufSize(-1), nats.PingInterval(5*time.Second))
	if err != nil {
		return fmt.Errorf("connect the witness: %w", err)
	}
	r.end = append(r.end, r.nc.Close)
	if r.js, err = jetstream.New(r.nc); err != nil {
		return fmt.Errorf("connect the witness: %w", err)
	}
	r.s3, err = minio.New(r.s3Addr, &minio.Options{
		Creds: credentials.NewStaticV4(accessKey, secretKey, ""), BucketLookup: minio.BucketLookupPath, Region: "us-east-1",
	})
	if err != nil {
		return fmt.Errorf("connect the witness: %w", err)
	}
	return await(ctx, startWait, "the broker", func(ctx context.Context) error {
		_, err := r.js.AccountInfo(ctx)
		return err
	})
}

// hasten shortens what would make faults take minutes.
func (r *rig) hasten(ctx context.Context) error {
	streams := r.js.ListStreams(ctx)
	for s := range streams.Info() {
		stream, err := r.js.Stream(ctx, s.Config.Name)
		if err != nil {
			return fmt.Errorf("hasten %s: %w", s.Config.Name, err)
		}
		consumers := stream.ListConsumers(ctx)
		for c := range consumers.Info() {
			if c.Config.AckWait == rigAckWait && c.Config.MaxDeliver == rigMaxDeliver {
				continue
			}
			c.Config.AckWait, c.Config.MaxDeliver = rigAckWait, rigMaxDeliver
			if _, err := stream.UpdateConsumer(ctx, c.Config); err != nil {
				return fmt.Errorf("hasten %s: %w", c.Name, err)
			}
		}
		if err := consumers.Err(); err != nil {
			return fmt.Errorf("hasten %s: %w", s.Config.Name, err)
		}
	}
	return streams.Err()
}

// hastening hastens again and again until ctx ends: one process provisions for itself, each
// time it starts. What fails meanwhile is tried again.
func (r *rig) hastening(ctx context.Context) {
	for wait(ctx, hastenPause) == nil {
		once, cancel := context.WithTimeout(ctx, hastenPause)
		_ = r.hasten(once)
		cancel()
	}
}

// awaitReady waits until every program says that it is.
func (r *rig) awaitReady(ctx context.Context) error {
	for _, addr := range r.ready {
		err := await(ctx, startWait, addr, func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
			if err != nil {
				return err
			}
			answer, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer func() { _ = answer.Body.Close() }() // only the status counts
			if answer.StatusCode != http.StatusOK {
				return errors.New(answer.Status)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lock serializes faults about the same thing.
func (r *rig) lock(what string) (unlock func()) {
	v, _ := r.locks.LoadOrStore(what, &sync.Mutex{})
	mu := v.(*sync.Mutex) //nolint:forcetypeassert // nothing else is stored
	mu.Lock()
	return mu.Unlock
}

// close ends everything.
func (r *rig) close() {
	for len(r.end) > 0 {
		last := len(r.end) - 1
		r.end[last]()
		r.end = r.end[:last]
	}
}

// await calls f until it succeeds, for at most limit.
func await(ctx context.Context, limit time.Duration, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var last error
	for {
		once, stop := context.WithTimeout(ctx, 5*time.Second)
		err := f(once)
		stop()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, last)
		case <-time.After(poll):
		}
	}
}

// freeAddr returns an address of the loopback interface that nobody listens on.
func freeAddr(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free address: %w", err)
	}
	return l.Addr().String(), l.Close()
}
