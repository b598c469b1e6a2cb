//go:build chaos

package failpoint

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

var (
	dir     = os.Getenv("CHAOS_DIR")
	offset  = readOffset(os.Getenv("CHAOS_CLOCK_OFFSET"))
	without = strings.Split(os.Getenv("CHAOS_WITHOUT"), ",")
)

// readOffset panics on what is no duration: a run whose clock is right would prove nothing.
func readOffset(s string) time.Duration {
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		panic("CHAOS_CLOCK_OFFSET: " + err.Error())
	}
	return d
}

// Hit ends the process where the point is armed for the stage. Who removes the file has
// taken the shot, so that one file ends one process.
func Hit[S ~string](stage S, p Point) {
	if dir == "" {
		return
	}
	armed := filepath.Join(dir, string(stage)+"."+string(p))
	if _, err := os.Lstat(armed); err == nil && os.Remove(armed) == nil {
		die()
	}
}

// Swallow ends the process where the document in body is one that kills the stage.
func Swallow[S ~string](stage S, body []byte) {
	if dir == "" || !bytes.Contains(body, []byte(Poison+string(stage)+"!")) {
		return
	}
	if _, err := os.Lstat(filepath.Join(dir, "poison")); err == nil {
		die()
	}
}

// die ends the process as a crash does: nothing is drained or flushed.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // it takes a moment
}

// Without reports whether a guard is switched off.
func Without(g Guard) bool { return slices.Contains(without, string(g)) }

// Now is the clock, moved by CHAOS_CLOCK_OFFSET.
func Now() time.Time { return time.Now().Add(offset) }
