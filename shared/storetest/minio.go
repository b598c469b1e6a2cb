package storetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/store"
)

const (
	// MinIOVar names the environment variable that names a minio binary.
	MinIOVar = "MINIO_BIN"
	// startTimeout bounds the start of MinIO; it takes a second or two on a busy machine.
	startTimeout = 60 * time.Second
	// pollEvery is how often it is asked whether it is up.
	pollEvery = 50 * time.Millisecond
)

// MinIO starts the MinIO server that the variable MINIO_BIN names on a free port of
// loopback, over an empty folder, and stops it when the test ends. Where the variable is
// not set the test is skipped; where it is set and the program is missing the test fails.
func MinIO(t testing.TB) store.S3Settings {
	t.Helper()
	binary := os.Getenv(MinIOVar)
	if binary == "" {
		t.Skipf("SKIPPED: %s is not set, so nothing was checked against a real MinIO", MinIOVar)
	}
	path, err := exec.LookPath(binary)
	require.NoError(t, err, "%s is set", MinIOVar)
	set := store.S3Settings{
		Endpoint: freeAddress(t), AccessKey: "millrace", SecretKey: rand.Text(), ReadyEvery: -1,
	}
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "minio.log"))
	require.NoError(t, err)
	defer log.Close() //nolint:errcheck // the process has its own
	// Not bound to the test's context, which is over before the clean-ups run.
	cmd := exec.Command(path, "server", "--quiet", "--address", set.Endpoint, "--console-address", "127.0.0.1:0",
		filepath.Join(dir, "data"))
	cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+set.AccessKey, "MINIO_ROOT_PASSWORD="+set.SecretKey,
		"MINIO_BROWSER=off", "MINIO_SCANNER_SPEED=slowest", "MINIO_UPDATE=off")
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if err := waitReady(t.Context(), set.Endpoint); err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("start MinIO: %v\n%s", err, text)
	}
	return set
}

// Versioned is a store whose buckets keep what is replaced and deleted, from the start.
type Versioned struct {
	store.Store

	client *minio.Client
}

// KeepVersions returns s, which is the store in set, so that its new buckets keep versions.
func KeepVersions(t testing.TB, s store.Store, set store.S3Settings) *Versioned {
	t.Helper()
	client, err := minio.New(set.Endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(set.AccessKey, set.SecretKey, ""), Secure: set.Secure,
	})
	require.NoError(t, err)
	return &Versioned{s, client}
}

// EnsureBucket implements store.Store.
func (v *Versioned) EnsureBucket(ctx context.Context, bucket string) (bool, error) {
	made, err := v.Store.EnsureBucket(ctx, bucket)
	if err == nil && made {
		err = v.client.EnableVersioning(ctx, bucket)
	}
	return made, err
}

// Count returns how many versions of objects a bucket holds, deletions included.
func (v *Versioned) Count(ctx context.Context, bucket string) (n int, err error) {
	for o := range v.client.ListObjects(ctx, bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			err = o.Err
		}
		n++
	}
	return n, err
}

// freeAddress returns an address of loopback that was free a moment ago.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // it held the port for a moment
	return l.Addr().String()
}

func waitReady(ctx context.Context, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+endpoint+"/minio/health/ready", nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("status %s", answer.Status)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready within %v: %w", startTimeout, err)
		case <-tick.C:
		}
	}
}
