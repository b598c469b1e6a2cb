package chaos

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// disk is a file system in memory whose size is ours to change.
type disk struct {
	dir  string
	size int64 // bytes, while it is not full
}

// diskSpare is what is left of a full disk: less than any write needs.
const diskSpare = 64 << 10

const (
	// perDocument is how many bytes a document takes in the store, at most: MinIO keeps a
	// folder and a file for each object.
	perDocument = 160 << 10
	smallDisk   = 2 << 30 // is enough for a short run
)

// disksFor returns how large each disk of a run has to be, 0 where it has none. It is a limit:
// what is not used takes no memory.
func disksFor(p *Plan, rate float64) int64 {
	if !p.Disks {
		return 0
	}
	return smallDisk + int64(rate*p.For.Seconds())*perDocument
}

// newDisk mounts one at dir. Only root may.
func newDisk(dir string, size int64) (*disk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a disk: %w", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,nr_inodes=0", size)); err != nil {
		return nil, fmt.Errorf("mount a disk at %s: %w", dir, err)
	}
	return &disk{dir: dir, size: size}, nil
}

// fill takes away all room that is not used.
func (d *disk) fill() error {
	var s unix.Statfs_t
	if err := unix.Statfs(d.dir, &s); err != nil {
		return fmt.Errorf("look at the disk %s: %w", d.dir, err)
	}
	used := int64(s.Blocks-s.Bfree) * s.Bsize
	return d.resize(used + diskSpare)
}

// heal gives the room back.
func (d *disk) heal() error { return d.resize(d.size) }

func (d *disk) resize(size int64) error {
	if err := unix.Mount("tmpfs", d.dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%d", size)); err != nil {
		return fmt.Errorf("change the size of the disk %s: %w", d.dir, err)
	}
	return nil
}

// close takes the disk away. What still uses it keeps it until it ends.
func (d *disk) close() { _ = unix.Unmount(d.dir, unix.MNT_DETACH) }
