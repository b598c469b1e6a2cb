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

// errAltered: the metadata of an object was changed since its file was written.
var errAltered = errors.New("metadata was changed in place")

// written is the file of an object that was just written.
type written struct {
	*os.File
	altered uint64 // durable.altered at that time
}

// keep returns f with a handle that stays open when f is closed. d.change must be held.
func (d *durable) keep(f *os.File) (*written, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("keep the file of an object open: %w", err)
	}
	return &written{File: os.NewFile(uintptr(fd), f.Name()), altered: d.altered}, nil
}

// share gives the file f of an object the further name bucket/key, in place of what has
// that name. It is an error where f has lost its last name or its metadata was changed
// meanwhile, or the file system has no such links: the caller then writes a file of its own.
func (d *durable) share(f *written, bucket, key string) error {
	unlock, err := d.lock(bucket, key)
	if err != nil {
		return err
	}
	defer unlock()
	if d.altered != f.altered {
		return errAltered
	}
	dst := filepath.Join(bucket, key)
	err = linkTo(f.File, dst)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	tmp := d.serial.name(bucket, linkPrefix)
	if err := linkTo(f.File, tmp); err != nil {
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

// unshare gives the object a file of its own where its file has other names too. d.change
// must be held for writing. What is not there, or is a folder, is left to the caller.
func (d *durable) unshare(bucket, key string) error {
	name := filepath.Join(bucket, key)
	f, err := os.Open(name)
	if err != nil {
		return nil //nolint:nilerr // the backend says what is wrong
	}
	defer f.Close() //nolint:errcheck // only read
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("look at object %q: %w", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink < 2 {
		return nil
	}
	tmp := d.serial.name(bucket, ownPrefix)
	err = copyFile(f, tmp, time.Unix(st.Mtim.Unix()))
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
