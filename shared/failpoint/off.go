//go:build !chaos

package failpoint

import "time"

// Hit ends the process where the point is armed for the stage.
func Hit[S ~string](S, Point) {}

// Swallow ends the process where the document in body is one that kills the stage.
func Swallow[S ~string](S, []byte) {}

// Without reports whether a guard is switched off.
func Without(Guard) bool { return false }

// Now is the clock.
func Now() time.Time { return time.Now() }
