package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/versity/versitygw/backend/posix"
)

// leftover matches what a killed process leaves beside an object that it was replacing:
// .<name>.sgwtmp.<nanoseconds>.
var leftover = regexp.MustCompile(`^\..+\.sgwtmp\.[0-9]{15,}$`)

// sweep makes the buckets in root ready: each gets its folder for files on their way, and
// what others left in it is removed. After a crash what was left among the objects, where
// listings would show it, is removed too; that looks at every name and takes about a second
// for a million.
func sweep(root string, crashed bool) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return fmt.Errorf("look for buckets: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		bucket := filepath.Join(root, e.Name())
		if err := sweepTemp(bucket); err != nil {
			return fmt.Errorf("clean bucket %q: %w", e.Name(), err)
		}
		if !crashed {
			continue
		}
		if err := sweepObjects(bucket); err != nil {
			return fmt.Errorf("clean bucket %q: %w", e.Name(), err)
		}
	}
	return nil
}

// sweepTemp empties the folder for files on their way, but for uploads in parts, which
// clients may go on with.
func sweepTemp(bucket string) error {
	if err := makeTemp(bucket); err != nil {
		return err
	}
	dir := filepath.Join(bucket, posix.MetaTmpDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func sweepObjects(bucket string) error {
	return filepath.WalkDir(bucket, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && path == filepath.Join(bucket, posix.MetaTmpDir):
			return fs.SkipDir
		case e.Type().IsRegular() && leftover.MatchString(e.Name()):
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}
