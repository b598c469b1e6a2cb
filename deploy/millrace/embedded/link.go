package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/versity/versitygw/backend/posix"
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
