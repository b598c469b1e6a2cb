package embedded

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/versity/versitygw/backend/posix"
	"golang.org/x/sys/unix"
)

const (
	// linkPrefix and ownPrefix begin the names of files on their way, in the folder of a
	// bucket that no listing shows.
	linkPrefix = "link-"
	ownPrefix  = "own-"
	// linkTries is how often a folder is made again that others remove at the same time.
	linkTries = 8
)

// linkSerial makes temporary names differ.
type linkSerial struct{ n atomic.Uint64 }

// name returns a name in the temporary folder of bucket that nobody else has: the folder is
// locked by this process and swept when it starts.
func (s *linkSerial) name(bucket, prefix string) string {
	return filepath.Join(bucket, posix.MetaTmpDir, prefix+strconv.FormatUint(s.n.Add(1), 36))
}

// keep returns a handle of f that stays open when f is closed.
func keep(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("keep the file of an object open: %w", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// share gives the file f of an object the further name bucket/key, in place of what has
// that name. It is an error where f has lost its last name meanwhile, or the file system has
// no such links: the caller then writes a file of its own.
func (d *durable) share(f *os.File, bucket, key string) error {
	unlock, err := d.lock(bucket, key)
	if err != nil {
		return err
	}
	defer unlock()
	dst := filepath.Join(bucket, key)
	err = linkTo(f, dst)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	tmp := d.serial.name(bucket, linkPrefix)
	if err := linkTo(f, tmp); err != nil {
		return err
	}
	err = os.Rename(tmp, dst)
	// Where both names are of one file already, the rename does nothing and leaves tmp.
	if gone := os.Remove(tmp); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// linkTo gives f the name dst, which must be free, and makes the folders on its way.
func linkTo(f *os.File, dst string) error {
	src := "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	var err error
	for range linkTries {
		err = unix.Linkat(unix.AT_FDCWD, src, unix.AT_FDCWD, dst, unix.AT_SYMLINK_FOLLOW)
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		var st unix.Stat_t
		if unix.Fstat(int(f.Fd()), &st) == nil && st.Nlink == 0 {
			break // somebody replaced the object whose file it was
		}
		if err := os.MkdirAll(filepath.Dir(dst), dirPerm); err != nil {
			return err
		}
	}
	if err != nil {
		return &os.LinkError{Op: "link", Old: src, New: dst, Err: err}
	}
	return nil
}

// renew gives the object a copy of its file, which nobody else has or is about to share: a
// document being written may still give the old one further names. d.change must be held for
// writing. What is not there, or is a folder, is left to the caller.
func (d *durable) renew(bucket, key string) error {
	name := filepath.Join(bucket, key)
	f, err := os.Open(name)
	if err != nil {
		return nil //nolint:nilerr // the backend says what is wrong
	}
	defer f.Close() //nolint:errcheck // only read
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at object %q: %w", name, err)
	}
	if !fi.Mode().IsRegular() {
		return nil
	}
	tmp := d.serial.name(bucket, ownPrefix)
	err = copyFile(f, tmp, fi.ModTime())
	if err == nil {
		err = os.Rename(tmp, name)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("give object %q a file of its own: %w", name, err)
	}
	return nil
}

// copyFile copies f with its metadata to the new file name.
func copyFile(f *os.File, name string, modified time.Time) (err error) {
	to, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if _, err := io.Copy(to, f); err != nil {
		return err
	}
	if err := copyAttributes(f, to); err != nil {
		return err
	}
	return os.Chtimes(name, modified, modified)
}
