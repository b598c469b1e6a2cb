package embedded

import (
	"crypto/md5" //nolint:gosec // the ETag of S3, no proof of anything
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/versity/versitygw/backend/posix"
	"golang.org/x/sys/unix"

	"github.com/jobspy/millrace/shared/store"
)

// The extended attributes in which the posix backend keeps what is known of an object.
const (
	attrETag        = "user.etag"
	attrContentType = "user.content-type"
	attrMetadata    = "user.metadata" // JSON object
)

// staged is a file with the body and the attributes of an object, in the form of the posix
// backend, that has no name yet. It is gone when it is closed without one.
type staged struct{ fd int }

// stage makes the file of an object. It is a third of the work of the backend's own write,
// which looks up what a fresh file of ours cannot have: versions, locks, legal holds.
func stage(o store.Object) (*staged, error) {
	dir := filepath.Join(o.Bucket, posix.MetaTmpDir)
	fd, err := unix.Open(dir, unix.O_WRONLY|unix.O_TMPFILE|unix.O_CLOEXEC, filePerm)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	s := &staged{fd: fd}
	if err := errors.Join(s.write(o.Body), s.describe(o)); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *staged) write(body []byte) error {
	for len(body) > 0 {
		n, err := unix.Write(s.fd, body)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("write the body: %w", err)
		}
		body = body[n:]
	}
	return nil
}

// describe sets the attributes. There are as few as can be: what fits beside the inode of
// the file needs no block of its own.
func (s *staged) describe(o store.Object) error {
	sum := md5.Sum(o.Body) //nolint:gosec // see above
	kind := o.ContentType
	if kind == "" {
		kind = store.DefaultContentType
	}
	set := func(name string, value []byte) error {
		if err := unix.Fsetxattr(s.fd, name, value, 0); err != nil {
			return fmt.Errorf("set attribute %q: %w", name, err)
		}
		return nil
	}
	err := errors.Join(set(attrETag, []byte(`"`+hex.EncodeToString(sum[:])+`"`)), set(attrContentType, []byte(kind)))
	if len(o.Meta) > 0 {
		text, bad := json.Marshal(o.Meta)
		err = errors.Join(err, bad, set(attrMetadata, text))
	}
	return err
}

func (s *staged) close() error { return unix.Close(s.fd) }

// path returns a name of the file while it is open.
func (s *staged) path() string { return "/proc/self/fd/" + strconv.Itoa(s.fd) }

// place gives the file the name of an object. done is false where it could not, or where the
// backend has to say what is in the way; with done, err is nil or store.ErrExists.
func (d *durable) place(s *staged, o store.Object) (done bool, err error) {
	unlock, err := d.lock(o.Bucket, o.Key)
	if err != nil {
		return false, err
	}
	defer unlock()
	dst := filepath.Join(o.Bucket, o.Key)
	err = s.link(dst)
	switch {
	case err == nil:
		return true, nil
	case !errors.Is(err, fs.ErrExist):
		return false, err
	case o.CreateOnly:
		if fi, err := os.Lstat(dst); err != nil || !fi.Mode().IsRegular() {
			return false, err
		}
		return true, store.ErrExists
	default:
		return s.replace(dst, d.serial.name(o.Bucket, linkPrefix))
	}
}

// link gives the file the name dst, which must be free, and makes the folders on its way.
func (s *staged) link(dst string) error {
	var err error
	for range linkTries {
		err = unix.Linkat(unix.AT_FDCWD, s.path(), unix.AT_FDCWD, dst, unix.AT_SYMLINK_FOLLOW)
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err := os.MkdirAll(filepath.Dir(dst), dirPerm); err != nil {
			return err
		}
	}
	if err != nil {
		return &os.LinkError{Op: "link", Old: s.path(), New: dst, Err: err}
	}
	return nil
}

// replace gives the file the name dst in place of the file that has it, by way of tmp.
func (s *staged) replace(dst, tmp string) (done bool, err error) {
	if err := s.link(tmp); err != nil {
		return false, err
	}
	err = os.Rename(tmp, dst)
	// Where both names are of one file already, the rename does nothing and leaves tmp.
	if gone := os.Remove(tmp); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err == nil, err
}
