//go:build integration

package integration

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// binaries returns the folder of the project's binaries, as MILLRACE_BIN names it.
func binaries(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("MILLRACE_BIN")
	if dir == "" {
		t.Skip("SKIPPED: MILLRACE_BIN does not name the folder of the built binaries (make test-integration sets it)")
	}
	_, err := os.Stat(filepath.Join(dir, "millrace"))
	require.NoError(t, err)
	return dir
}

// tool returns a program that is not ours, as an environment variable names it.
func tool(t *testing.T, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Skipf("SKIPPED: %s names no program (make test-integration sets it)", variable)
	}
	_, err := os.Stat(path)
	require.NoError(t, err)
	return path
}

// freeAddr returns an address of the loopback interface that nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	return l.Addr().String()
}

// process is a program that a test runs.
type process struct {
	t    *testing.T
	name string
	args []string
	env  []string
	log  string // file that takes its output
	cmd  *exec.Cmd
	done chan struct{}
}

// run starts a program; it is killed when the test ends, and its output shown if that
// failed.
func run(t *testing.T, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{
		t: t, name: name, args: args, env: append(os.Environ(), env...),
		log: filepath.Join(t.TempDir(), filepath.Base(name)+".log"),
	}
	p.start()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			if b, err := os.ReadFile(p.log); err == nil {
				t.Logf("%s:\n%s", filepath.Base(name), tail(b))
			}
		}
	})
	return p
}

func tail(b []byte) []byte {
	const most = 8 << 10
	return b[max(len(b)-most, 0):]
}

func (p *process) start() {
	p.t.Helper()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(p.t, err)
	defer func() { require.NoError(p.t, out.Close()) }()
	cmd := exec.Command(p.name, p.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, out, out
	cmd.Dir = filepath.Dir(p.log)
	require.NoError(p.t, cmd.Start())
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go func() { defer close(done); _ = cmd.Wait() }() // it is killed, so it fails
}

// kill ends the program as a crash would, and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may be gone already
	<-p.done
}

// ready waits until the program says that it is.
func ready(t *testing.T, addr string) {
	t.Helper()
	client := &http.Client{Timeout: 2 * time.Second}
	require.Eventually(t, func() bool {
		r, err := client.Get(fmt.Sprintf("http://%s/readyz", addr))
		if err != nil {
			return false
		}
		defer func() { _ = r.Body.Close() }() // only the status counts
		return r.StatusCode == http.StatusOK
	}, startWait, poll, "%s is ready", addr)
}
