//go:build linux || darwin

package operate

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// freeBytes returns what a user may still write to the disk of dir.
func freeBytes(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return s.Bavail * uint64(s.Bsize), nil //nolint:unconvert // the type differs between systems
}
