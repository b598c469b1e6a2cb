package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/store"
)

const (
	// childDir and childAddr tell the child where.
	childDir  = "MILLRACE_TEST_DIR"
	childAddr = "MILLRACE_TEST_ADDR"
	// childKey is the object that the child overwrites until it is killed.
	childKey = "by_date/2025-01-27/x.json"
)

// child runs one of the programs that need a process to themselves, and returns its exit
// code. What it finds out goes to stdout.
func child(name string) int {
	programs := map[string]func(ctx context.Context, c S3Config) error{
		"start":     childStart,
		"overwrite": childOverwrite,
		"list":      childList,
		"half-open": childHalfOpen,
		"restart":   childRestart,
	}
	c := S3Config{Dir: os.Getenv(childDir), Addr: os.Getenv(childAddr), AccessKey: accessKey, SecretKey: secretKey}
	if err := programs[name](context.Background(), c); err != nil {
		fmt.Println("error:", err)
		return 1
	}
	return 0
}

// command returns the child that runs the named program.
func command(t *testing.T, name, dir, addr string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childVar+"="+name, childDir+"="+dir, childAddr+"="+addr)
	return cmd
}

func childStart(ctx context.Context, c S3Config) error {
	s, err := StartS3(ctx, c)
	if err != nil {
		return err
	}
	return s.Stop()
}

// childRestart starts it twice, one after the other, on a relative folder.
func childRestart(ctx context.Context, c S3Config) error {
	if err := os.Chdir(filepath.Dir(c.Dir)); err != nil {
		return err
	}
	abs := c.Dir
	c.Dir = filepath.Base(c.Dir)
	ref := store.Ref{Bucket: "bucket", Key: "k"}
	for n := range 2 {
		s, err := StartS3(ctx, c)
		if err != nil {
			return err
		}
		if n == 0 {
			_, err = s.Store().EnsureBucket(ctx, ref.Bucket)
			err = errors.Join(append(s.Store().Put(ctx, store.Object{Ref: ref, Body: []byte("x")}), err)...)
		} else {
			_, err = s.Store().Get(ctx, ref)
		}
		if err := errors.Join(err, s.Stop(), s.Stop()); err != nil {
			return err
		}
		c.Dir = abs
	}
	return nil
}

// childOverwrite replaces one object over http, the way that leaves something when it is
// killed, and says when it has begun.
func childOverwrite(ctx context.Context, c S3Config) error {
	s, err := StartS3(ctx, c)
	if err != nil {
		return err
	}
	web, err := store.OpenS3(ctx, store.S3Settings{Endpoint: s.Addr(), AccessKey: accessKey, SecretKey: secretKey})
	if err != nil {
		return err
	}
	if _, err := web.EnsureBucket(ctx, "bucket"); err != nil {
		return err
	}
	for n := 0; ; n++ {
		o := store.Object{Ref: store.Ref{Bucket: "bucket", Key: childKey}, Body: []byte("body")}
		if err := errors.Join(web.Put(ctx, o)...); err != nil {
			return err
		}
		if n == 20 {
			fmt.Println("running")
		}
	}
}

// childList prints the keys of the bucket.
func childList(ctx context.Context, c S3Config) error {
	s, err := StartS3(ctx, c)
	if err != nil {
		return err
	}
	for info, err := range s.Store().List(ctx, "bucket", "") {
		if err != nil {
			return err
		}
		fmt.Println(info.Key)
	}
	return s.Stop()
}

// childHalfOpen stops while clients hold connections on which they send nothing more.
func childHalfOpen(ctx context.Context, c S3Config) error {
	s, err := StartS3(ctx, c)
	if err != nil {
		return err
	}
	for _, text := range []string{
		"", "GET / HT", "PUT /bucket/key HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nonly a part",
	} {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Addr())
		if err != nil {
			return err
		}
		defer conn.Close() //nolint:errcheck // the process ends
		if _, err := conn.Write([]byte(text)); err != nil {
			return err
		}
	}
	began := time.Now()
	err = s.Stop()
	fmt.Println("stopped in", time.Since(began))
	if took := time.Since(began); took > s3Stop+500*time.Millisecond {
		return fmt.Errorf("stopping took %v", took)
	}
	return err
}

func TestKilledServerLeavesNothingThatIsListed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "buckets")
	for range 3 {
		cmd := command(t, "overwrite", dir, "127.0.0.1:0")
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		line := make([]byte, 256)
		n, err := out.Read(line)
		require.NoError(t, err)
		require.Equal(t, "running\n", string(line[:n]))
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
	}
	// What a kill at the worst moment leaves, made by hand, for it is rare.
	folder := filepath.Dir(filepath.Join(dir, "bucket", childKey))
	for _, name := range []string{".x.json.sgwtmp.1769524252000000000", ".sgwtmp.json", "y.sgwtmp.1"} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte("torn"), filePerm))
	}
	stale := filepath.Join(dir, "bucket", ".sgwtmp", "link-1")
	require.NoError(t, os.WriteFile(stale, nil, filePerm))

	text, err := command(t, "list", dir, "127.0.0.1:0").CombinedOutput()
	require.NoError(t, err, string(text))
	want := "by_date/2025-01-27/.sgwtmp.json\n" + childKey + "\nby_date/2025-01-27/y.sgwtmp.1\n"
	require.Equal(t, want, string(text), "what is named alike but is an object stays")
	require.NoFileExists(t, stale)
}

func TestRestartInOneProcessAndRelativeFolder(t *testing.T) {
	t.Parallel()
	text, err := command(t, "restart", filepath.Join(t.TempDir(), "buckets"), "127.0.0.1:0").CombinedOutput()
	require.NoError(t, err, string(text))
	require.Empty(t, string(text), "nothing is printed")
}

func TestStopDoesNotWaitForClients(t *testing.T) {
	t.Parallel()
	text, err := command(t, "half-open", t.TempDir(), "127.0.0.1:0").CombinedOutput()
	require.NoError(t, err, string(text))
	t.Log(strings.TrimSpace(string(text)))
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, filePerm))
	tests := []struct {
		name, dir, addr string
		want            []string
	}{
		{"the port is in use", t.TempDir(), taken.Addr().String(), []string{taken.Addr().String(), "address already in use"}},
		{"the folder is in use", shared.folder.path, "127.0.0.1:0", []string{shared.folder.path, "in use by another process", "pid"}},
		{"the folder is a file", file, "127.0.0.1:0", []string{file, "not a directory"}},
		{"the address is none", t.TempDir(), "nonsense", []string{"nonsense"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text, err := command(t, "start", tt.dir, tt.addr).CombinedOutput()
			require.Error(t, err)
			for _, want := range tt.want {
				require.Contains(t, string(text), want)
			}
		})
	}
}
