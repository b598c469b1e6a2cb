package embedded

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/storetest"
)

// shared is the one object store of this test binary: there can be only one per process.
var shared *S3

// syncs counts the syncs of the file system that have begun and ended. Where hold is set
// it is called in between.
var syncs struct {
	began, ended atomic.Int64
	hold         atomic.Pointer[func() error]
}

const (
	accessKey = "millrace"
	secretKey = "a secret of the tests"
)

// childVar makes the test binary run a program of its own instead of the tests: what needs
// a process to itself.
const childVar = "MILLRACE_TEST_CHILD"

func TestMain(m *testing.M) {
	if name := os.Getenv(childVar); name != "" {
		os.Exit(child(name))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "millrace-embedded-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	root, err := os.Open(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared, err = startS3(context.Background(), S3Config{
		Dir: filepath.Join(dir, "buckets"), Addr: "127.0.0.1:0", AccessKey: accessKey, SecretKey: secretKey,
	}, func() error {
		syncs.began.Add(1)
		defer syncs.ended.Add(1)
		if hold := syncs.hold.Load(); hold != nil {
			if err := (*hold)(); err != nil {
				return err
			}
		}
		return unix.Syncfs(int(root.Fd()))
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := shared.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// client returns a store that speaks S3 to the shared server.
func client(t testing.TB) *store.S3 {
	t.Helper()
	s, err := store.OpenS3(t.Context(), store.S3Settings{
		Endpoint: shared.Addr(), AccessKey: accessKey, SecretKey: secretKey, ReadyEvery: -1,
	})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// bucket makes a new bucket.
func bucket(t testing.TB, s store.Store) string {
	t.Helper()
	name := storetest.Bucket()
	_, err := s.EnsureBucket(t.Context(), name)
	require.NoError(t, err)
	return name
}
