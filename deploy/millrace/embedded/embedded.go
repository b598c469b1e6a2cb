// Package embedded runs the broker and the object store inside this process, each over a
// plain folder, so that one binary is the whole line. What they acknowledge is on disk.
//
// A folder belongs to one process at a time; a second one is told so. The object store
// changes the working directory of the process and there is at most one of it per process:
// make paths absolute before starting it.
package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// dirPerm and filePerm keep what is stored from other users of the machine.
	dirPerm  = 0o700
	filePerm = 0o600
	// lockName is the file in a folder that its process holds locked.
	lockName = ".millrace.lock"
	// markRunning and markStopped are the first words in it: after markRunning the last
	// process did not stop in good order.
	markRunning = "running"
	markStopped = "stopped"
)

// folder is a folder that this process has to itself.
type folder struct {
	path string // absolute
	lock *os.File
	// crashed says that the process before this one did not stop in good order.
	crashed bool
}

// takeFolder makes the folder where it is missing and locks it.
func takeFolder(dir string) (*folder, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find folder %q: %w", dir, err)
	}
	if err := os.MkdirAll(path, dirPerm); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	name := filepath.Join(path, lockName)
	lock, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return nil, fmt.Errorf("open the lock of folder %q: %w", path, err)
	}
	text, readErr := os.ReadFile(name)
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("folder %q is in use by another process (%s)", path, strings.TrimSpace(string(text)))
		}
		return nil, fmt.Errorf("lock folder %q: %w", path, err)
	}
	f := &folder{path: path, lock: lock, crashed: strings.HasPrefix(string(text), markRunning)}
	if err := errors.Join(readErr, f.mark(markRunning)); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("mark folder %q as in use: %w", path, err)
	}
	return f, nil
}

// mark writes the state of the folder and the number of this process into the lock file.
func (f *folder) mark(state string) error {
	text := state + " pid " + strconv.Itoa(os.Getpid()) + "\n"
	if _, err := f.lock.WriteAt([]byte(text), 0); err != nil {
		return err
	}
	return f.lock.Truncate(int64(len(text)))
}

// release gives the folder back. clean says that nothing in it was left half done.
func (f *folder) release(clean bool) error {
	var err error
	if clean {
		err = f.mark(markStopped)
	}
	return errors.Join(err, f.lock.Close()) // closing unlocks
}
