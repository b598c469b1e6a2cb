package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/fault"
)

// The defaults of S3Settings.
const (
	// DefaultParallel is how many requests that write are under way at one time.
	DefaultParallel = 32
	// DefaultTimeout bounds one operation on one object, with its retries.
	DefaultTimeout = 15 * time.Second
	// DefaultReadyEvery is how long the answer of Ready is believed.
	DefaultReadyEvery = 5 * time.Second
	// DefaultMaxBody is the largest object that Get reads into memory, in bytes.
	DefaultMaxBody = 256 << 20
)

const (
	// dialTimeout bounds the making of one connection.
	dialTimeout = 5 * time.Second
	// idleTimeout is how long a connection without work is kept warm.
	idleTimeout = 90 * time.Second
	// retries is how often one request is sent before the store counts as down; the runner
	// holds its document and asks again, so a few are enough to get over a broken connection.
	retries = 3
	// listPage is how many names are asked for at one time.
	listPage = 1000
)

// S3Settings says where an S3 store is and how it is used. Zero values mean the defaults.
type S3Settings struct {
	Endpoint  string // host:port
	AccessKey string
	SecretKey string
	Secure    bool   // https
	Region    string // empty means us-east-1
	// Transport carries the requests; nil means one of its own with warm connections.
	Transport http.RoundTripper
	// Parallel bounds the writing requests under way at one time: DefaultParallel.
	Parallel int
	// Timeout bounds one operation on one object or batch, with its retries: DefaultTimeout.
	// When it is over the store counts as down.
	Timeout time.Duration
	// Bucket is where Probe and Ready write, under the prefix _probe/, and remove again:
	// contract.BucketProcessed.
	Bucket string
	// ReadyEvery is how long the answer of Ready is believed, so that polling a readiness
	// page costs the store little: DefaultReadyEvery. Below zero every call asks the store.
	ReadyEvery time.Duration
	// MaxBody is the largest object in bytes that Get reads: DefaultMaxBody.
	MaxBody int64
}

func (s S3Settings) withDefaults() S3Settings {
	if s.Region == "" {
		s.Region = "us-east-1"
	}
	if s.Parallel <= 0 {
		s.Parallel = DefaultParallel
	}
	if s.Timeout <= 0 {
		s.Timeout = DefaultTimeout
	}
	if s.Bucket == "" {
		s.Bucket = contract.BucketProcessed
	}
	if s.ReadyEvery == 0 {
		s.ReadyEvery = DefaultReadyEvery
	}
	if s.MaxBody <= 0 {
		s.MaxBody = DefaultMaxBody
	}
	if s.Transport == nil {
		s.Transport = newTransport(s)
	}
	return s
}

// S3 is a Store over whatever speaks S3. Each object carries its MD5, which the store
// verifies before it answers, so that a body damaged on its way is refused. Objects of one
// Put are written at the same time; where Probe has seen that the store takes batches,
// small ones go in batches.
type S3 struct {
	set    S3Settings
	client *minio.Client // retries
	once   minio.Core    // sends each request once
	slots  chan struct{} // bounds the requests that write
	caps   atomic.Pointer[Capabilities]

	readyMu sync.Mutex
	readyAt time.Time
	readyIs error
}

var _ Store = (*S3)(nil)

// OpenS3 returns the store that s names. It does not ask the store anything: call Ready or
// Probe for that.
func OpenS3(_ context.Context, s S3Settings) (*S3, error) {
	s = s.withDefaults()
	open := func(tries int) (*minio.Client, error) {
		return minio.New(s.Endpoint, &minio.Options{
			Creds:        credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""),
			Secure:       s.Secure,
			Region:       s.Region,
			Transport:    s.Transport,
			BucketLookup: minio.BucketLookupPath,
			MaxRetries:   tries,
			// Checksums after the body are refused by some stores over plain http.
			TrailingHeaders: false,
		})
	}
	client, err := open(retries)
	if err != nil {
		return nil, fmt.Errorf("open object store %q: %w", s.Endpoint, err)
	}
	once, err := open(1)
	if err != nil {
		return nil, fmt.Errorf("open object store %q: %w", s.Endpoint, err)
	}
	return &S3{set: s, client: client, once: minio.Core{Client: once}, slots: make(chan struct{}, s.Parallel)}, nil
}

// newTransport returns a transport that keeps a warm connection for each parallel request
// and two more for reads.
func newTransport(s S3Settings) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConns:          2*s.Parallel + 2,
		MaxIdleConnsPerHost:   2*s.Parallel + 2,
		IdleConnTimeout:       idleTimeout,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: s.Timeout,
		ExpectContinueTimeout: time.Second,
		WriteBufferSize:       16 << 10,
		DisableCompression:    true, // bodies come as they were stored
	}
}

// Close closes the connections that have no work. The store can be used afterwards.
func (s *S3) Close() {
	if c, ok := s.set.Transport.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// bound returns a context for one operation, and cause for the error to show instead of
// "context deadline exceeded" when it was our own limit.
func (s *S3) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, s.set.Timeout,
		fmt.Errorf("no answer from the object store within %v", s.set.Timeout))
}

// acquire takes one of the slots for writing requests.
func (s *S3) acquire(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fault.Down(context.Cause(ctx))
	}
}

func (s *S3) release() { <-s.slots }

// classify turns an error of the client into one of this package: ErrNotFound and ErrExists
// where the store said so, and for everything else the verdict that the store is down.
func classify(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return fault.Down(fmt.Errorf("%w (%w)", cause, err))
	}
	answer, ok := errors.AsType[minio.ErrorResponse](err)
	if !ok {
		return fault.Down(err)
	}
	switch {
	case answer.Code == minio.NoSuchKey || answer.Code == minio.NoSuchBucket || answer.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w (%w)", ErrNotFound, err)
	case answer.Code == minio.PreconditionFailed || answer.StatusCode == http.StatusPreconditionFailed:
		return fmt.Errorf("%w (%w)", ErrExists, err)
	default:
		return fault.Down(fmt.Errorf("%s: %w", answer.Code, err))
	}
}
