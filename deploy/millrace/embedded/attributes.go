package embedded

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// testAttribute is set and removed to find out whether a file system can hold metadata.
const testAttribute = "user.millrace-test"

// copyAttributes gives to all extended attributes of from that belong to users: the
// metadata of the object.
func copyAttributes(from, to *os.File) error {
	names, err := readGrowing(func(buf []byte) (int, error) { return unix.Flistxattr(int(from.Fd()), buf) })
	if err != nil {
		return fmt.Errorf("list attributes: %w", err)
	}
	for name := range bytes.SplitSeq(names, []byte{0}) {
		if !bytes.HasPrefix(name, []byte("user.")) {
			continue
		}
		value, err := readGrowing(func(buf []byte) (int, error) {
			return unix.Fgetxattr(int(from.Fd()), string(name), buf)
		})
		if err != nil {
			return fmt.Errorf("read attribute %q: %w", name, err)
		}
		if err := unix.Fsetxattr(int(to.Fd()), string(name), value, 0); err != nil {
			return fmt.Errorf("set attribute %q: %w", name, err)
		}
	}
	return nil
}

// readGrowing calls read with a buffer of the size that read says it needs.
func readGrowing(read func([]byte) (int, error)) ([]byte, error) {
	size, err := read(nil)
	if err != nil || size == 0 {
		return nil, err
	}
	buf := make([]byte, size)
	n, err := read(buf)
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

// testAttributes reports why the folder cannot hold the metadata of objects.
func testAttributes(dir string) error {
	err := unix.Setxattr(dir, testAttribute, []byte("1"), 0)
	if err == nil {
		err = unix.Removexattr(dir, testAttribute)
	}
	if err != nil {
		return fmt.Errorf("folder %q cannot hold the metadata of objects: its file system has no extended attributes "+
			"for users (ext4, xfs, btrfs, overlay and newer tmpfs have them): %w", dir, err)
	}
	return nil
}
