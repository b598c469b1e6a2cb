package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// restartPause is how long after its end a program is started again, as whoever runs it
// would.
const restartPause = 300 * time.Millisecond

// process is a program that is started again whenever it ends, until it is held. Its methods
// may be called concurrently.
type process struct {
	name string
	path string
	args []string
	log  string // file that takes its output

	mu     sync.Mutex
	env    []string
	cmd    *exec.Cmd
	done   chan struct{} // closed when cmd has ended
	held   int           // while over 0 it is not started again
	killed int           // how often it was ended by SIGKILL
	exits  []string      // how it ended by itself, which it should not
	closed bool
}

// start starts the program where it does not run.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.startLocked()
}

func (p *process) startLocked() error {
	if p.closed || p.held > 0 || p.done != nil {
		return nil
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	defer func() { _ = out.Close() }()     // the program has its own
	cmd := exec.Command(p.path, p.args...) //nolint:gosec,noctx // our own programs, ended by us
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, out, out
	cmd.Dir = filepath.Dir(p.log)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go p.await(cmd, done)
	return nil
}

// await notes how the program ended and starts it again.
func (p *process) await(cmd *exec.Cmd, done chan struct{}) {
	_ = cmd.Wait() // how it ended is in its state
	p.mu.Lock()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case ok && status.Signaled() && status.Signal() == syscall.SIGKILL:
		p.killed++
	case !p.closed:
		p.exits = append(p.exits, cmd.ProcessState.String())
	}
	p.done = nil
	close(done)
	p.mu.Unlock()
	time.AfterFunc(restartPause, func() {
		_ = p.start() // where that fails the line does not come to rest, and that is seen
	})
}

// hold ends the program as a crash would and keeps it down until release is called.
func (p *process) hold() {
	p.mu.Lock()
	p.held++
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	if done != nil {
		_ = cmd.Process.Kill() // it may be gone already
		<-done
	}
}

// release lets the program run again.
func (p *process) release() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held--
	return p.startLocked()
}

// signal sends a signal to the program, if it runs.
func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done != nil {
		_ = p.cmd.Process.Signal(s) // it may be gone already
	}
}

// with replaces the environment from the next start on.
func (p *process) with(env []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.env = env
}

// close ends the program for good.
func (p *process) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.hold()
}

// crashes returns how often it was killed, and how it ended by itself.
func (p *process) crashes() (killed int, exits []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed, append([]string(nil), p.exits...)
}
