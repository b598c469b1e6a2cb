package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"
	"golang.org/x/sys/unix"
)

const (
	// s3Region is the region where the configuration names none.
	s3Region = "us-east-1"
	// s3Connections and s3Requests bound what clients may have under way at one time.
	s3Connections = 4096
	s3Requests    = 1024
	// s3Parts is the most parts of one upload, as in S3.
	s3Parts = 10000
	// s3Copy is the largest object in bytes that the server copies, as in S3.
	s3Copy = 5 << 30
	// s3Buffer is the size in bytes of the buffers through which bodies go.
	s3Buffer = 64 << 10
	// s3Health is where the server says that it is up; no bucket can have such a name.
	s3Health = "/_millrace_health"
	// s3Start bounds the start of the server, s3Poll is how often it is asked.
	s3Start = 10 * time.Second
	s3Poll  = 5 * time.Millisecond
	// s3Stop bounds the wait for clients when stopping: a client that sends nothing could
	// make it ten seconds.
	s3Stop = time.Second
	// freePorts is how often another free port is tried.
	freePorts = 5
)

// S3Config says how the object store runs.
type S3Config struct {
	// Dir holds a folder for each bucket. It is made where it is missing. Its file system
	// must have extended attributes.
	Dir string
	// Addr is the host:port to listen on; port 0 means any free one.
	Addr      string
	AccessKey string
	SecretKey string
	Region    string // empty means us-east-1
	// SyncGap is the least time between two syncs of the file system that follow one another:
	// longer means fewer syncs and a longer wait while many write. The first sync after a
	// pause never waits. 0 means none.
	SyncGap time.Duration
}

// S3 is a running object store: an S3 server over a folder, where the object bucket/key is
// the file bucket/key, and the same folder without the network by Store.
type S3 struct {
	addr   string
	access string
	folder *folder
	root   *os.File
	disk   *durable

	cancel context.CancelFunc
	ended  chan struct{} // closed when the server has returned
	err    error         // of the server, valid when ended is closed

	stop    sync.Once
	stopErr error
}

// StartS3 starts the object store and returns when it answers; ctx bounds only the start.
// There is at most one per process, and it changes the working directory of the process to
// c.Dir.
func StartS3(ctx context.Context, c S3Config) (*S3, error) {
	s, err := startS3(ctx, c, nil)
	if err != nil {
		return nil, fmt.Errorf("start object store: %w", err)
	}
	return s, nil
}

// startS3 is StartS3; a sync that is not nil takes the place of the one of the file system.
func startS3(ctx context.Context, c S3Config, syncFS func() error) (_ *S3, err error) {
	if c.Region == "" {
		c.Region = s3Region
	}
	dir, err := takeFolder(c.Dir)
	if err != nil {
		return nil, err
	}
	s := &S3{access: c.AccessKey, folder: dir, ended: make(chan struct{})}
	if err := s.open(c.SyncGap, syncFS); err != nil {
		return nil, errors.Join(err, s.close(!dir.crashed))
	}
	for try := 1; ; try++ {
		if err = s.serve(ctx, c); err == nil {
			return s, nil
		}
		if try == freePorts || !anyPort(c.Addr) || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, errors.Join(err, s.close(true))
		}
	}
}

// open prepares the folder.
func (s *S3) open(gap time.Duration, syncFS func() error) error {
	if err := testAttributes(s.folder.path); err != nil {
		return err
	}
	root, err := os.Open(s.folder.path)
	if err != nil {
		return fmt.Errorf("open folder: %w", err)
	}
	s.root = root
	if syncFS == nil {
		syncFS = func() error { return unix.Syncfs(int(root.Fd())) }
	}
	opts := posix.PosixOpts{
		ForceNoObjLockFile:  true, // this process has the folder to itself
		ValidateBucketNames: true,
		IOBufferSize:        s3Buffer,
		CopyObjectThreshold: s3Copy, // 0 would refuse every copy
	}
	opts.SetNewDirPerm(dirPerm)
	opts.SetNewFilePerm(filePerm)
	inner, err := posix.New(s.folder.path, meta.XattrMeta{}, opts)
	if err != nil {
		return fmt.Errorf("open folder: %w", err)
	}
	s.disk = newDurable(inner, root, newGroupSync(gap, syncFS))
	return sweep(s.folder.path, s.folder.crashed)
}

// serve starts the server and returns when it answers.
func (s *S3) serve(ctx context.Context, c S3Config) error {
	addr, err := pickAddr(ctx, c.Addr)
	if err != nil {
		return err
	}
	listening := make(chan struct{})
	var once sync.Once
	root := auth.Account{Access: c.AccessKey, Secret: c.SecretKey, Role: auth.RoleAdmin}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.addr, s.cancel, s.ended = addr, cancel, make(chan struct{})
	go func() {
		defer close(s.ended)
		s.err = embedgw.RunVersityGW(run, s.disk, &embedgw.Config{
			RootUserAccess: c.AccessKey, RootUserSecret: c.SecretKey, Region: c.Region,
			Ports: []string{addr}, IAMService: auth.NewIAMServiceSingle(root),
			MaxConnections: s3Connections, MaxRequests: s3Requests, MultipartMaxParts: s3Parts,
			Quiet: true, KeepAlive: true, HealthPath: s3Health,
			S3Options: []s3api.Option{s3api.WithOnListen(func() { once.Do(func() { close(listening) }) })},
		})
	}()
	ctx, done := context.WithTimeoutCause(ctx, s3Start, fmt.Errorf("no answer within %v", s3Start))
	defer done()
	select {
	case <-listening:
		err = healthy(ctx, addr)
	case <-s.ended:
		err = s.failure()
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		s.halt()
		return fmt.Errorf("listen on %q: %w", addr, err)
	}
	return nil
}

// halt ends the server and waits for it, but not for clients that keep it waiting.
func (s *S3) halt() {
	s.cancel()
	timer := time.NewTimer(s3Stop)
	defer timer.Stop()
	select {
	case <-s.ended:
	case <-timer.C:
	}
}

// failure returns why the server ended by itself.
func (s *S3) failure() error {
	if s.err != nil {
		return s.err
	}
	return errors.New("the server ended")
}

// Addr returns the host:port that the server listens on.
func (s *S3) Addr() string { return s.addr }

// Done is closed when the server has ended.
func (s *S3) Done() <-chan struct{} { return s.ended }

// Stop ends the server, gives up on clients that keep it waiting for longer than a second,
// and gives the folder back. What was acknowledged is on disk. Idempotent.
func (s *S3) Stop() error {
	s.stop.Do(func() {
		s.halt()
		if err := s.close(true); err != nil {
			s.stopErr = fmt.Errorf("stop object store: %w", err)
		}
	})
	return s.stopErr
}

// close lets no write in any more and gives the folder back.
func (s *S3) close(clean bool) error {
	var err error
	if s.disk != nil {
		s.disk.close()
	}
	if s.root != nil {
		err = s.root.Close()
	}
	return errors.Join(err, s.folder.release(clean))
}

// anyPort reports whether addr leaves the choice of the port to us.
func anyPort(addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	return err == nil && port == "0"
}

// pickAddr replaces port 0 by one that is free: the server does not say which it got.
func pickAddr(ctx context.Context, addr string) (string, error) {
	if !anyPort(addr) {
		return addr, nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return "", fmt.Errorf("find a free port for %q: %w", addr, err)
	}
	return l.Addr().String(), l.Close()
}

// healthy returns when the server at addr answers.
func healthy(ctx context.Context, addr string) error {
	transport := &http.Transport{DisableKeepAlives: true} // an idle connection would delay a stop
	client := &http.Client{Transport: transport}
	tick := time.NewTicker(s3Poll)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+s3Health, nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(req)
		if err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("status %s", answer.Status)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// path returns where an object lies.
func (s *S3) path(bucket, key string) string { return filepath.Join(s.folder.path, bucket, key) }
