package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"sync"

	"github.com/versity/versitygw/s3response"

	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/store"
)

// writeTries is how often one object is written before its error is reported.
const writeTries = 4

// Put implements store.Store.
func (l *local) Put(ctx context.Context, objects ...store.Object) []error {
	errs := make([]error, len(objects))
	l.writeAll(ctx, objects, errs)
	wrote := 0
	for _, err := range errs {
		if err == nil {
			wrote++
		}
	}
	if wrote == 0 {
		return l.name(objects, errs)
	}
	if err := l.disk.group.join(ctx, wrote); err != nil {
		for i := range errs {
			if errs[i] == nil {
				errs[i] = fault.Down(fmt.Errorf("sync the folder of the object store: %w", err))
			}
		}
	}
	return l.name(objects, errs)
}

// name says in each error which object it is about, and returns nil where there is none.
func (l *local) name(objects []store.Object, errs []error) []error {
	bad := false
	for i, err := range errs {
		if err != nil {
			errs[i] = fmt.Errorf("put object %q: %w", objects[i].Ref, err)
			bad = true
		}
	}
	if !bad {
		return nil
	}
	return errs
}

// writeAll writes the objects without waiting for the disk.
func (l *local) writeAll(ctx context.Context, objects []store.Object, errs []error) {
	groups := l.group(objects, errs)
	queue := make(chan []int, len(groups))
	for _, g := range groups {
		queue <- g
	}
	close(queue)
	var work sync.WaitGroup
	for range min(localParallel, len(groups)) {
		work.Go(func() {
			for g := range queue {
				l.writeGroup(ctx, objects, g, errs)
			}
		})
	}
	work.Wait()
}

// alike is what objects of one group have in common, but for the rare equal sums of
// different bodies.
type alike struct {
	sum  uint64
	size int
	kind string
}

// group gathers, by their indices, the objects that can share a file. A create-only object
// stands first in its group, and there is one at most: a name that must be free is taken by
// writing, never by linking. What no store would take gets its error here.
func (l *local) group(objects []store.Object, errs []error) [][]int {
	var groups [][]int
	byKind := map[alike][]int{} // the groups of the kind, by their place in groups
	for i, o := range objects {
		if errs[i] = store.Check(o); errs[i] != nil {
			continue
		}
		kind := alike{maphash.Bytes(l.disk.seed, o.Body), len(o.Body), o.ContentType}
		at := -1
		for _, g := range byKind[kind] {
			first := objects[groups[g][0]]
			if bytes.Equal(first.Body, o.Body) && maps.Equal(first.Meta, o.Meta) && !(first.CreateOnly && o.CreateOnly) {
				at = g
				break
			}
		}
		switch {
		case at < 0:
			byKind[kind] = append(byKind[kind], len(groups))
			groups = append(groups, []int{i})
		case o.CreateOnly:
			groups[at] = append([]int{i}, groups[at]...)
		default:
			groups[at] = append(groups[at], i)
		}
	}
	return groups
}

// writeGroup writes the file of the group and gives it the names of its objects. What that
// cannot do, the backend does: it also says what is in the way.
func (l *local) writeGroup(ctx context.Context, objects []store.Object, group []int, errs []error) {
	file, err := stage(objects[group[0]])
	if err == nil {
		defer file.close() //nolint:errcheck // what it held is written or has an error
	}
	for _, i := range group {
		if err := ctx.Err(); err != nil {
			errs[i] = fault.Down(err)
			continue
		}
		done := false
		if file != nil {
			done, errs[i] = l.disk.place(file, objects[i])
		}
		if !done {
			errs[i] = l.write(ctx, objects[i])
		}
	}
}

// write writes one object through the backend without waiting for the disk. It tries again
// where somebody removed an empty folder on the way to the object, which the backend reports
// as a folder in its place.
func (l *local) write(ctx context.Context, o store.Object) error {
	for try := 1; ; try++ {
		err := l.writeOnce(ctx, o)
		if code(err) != "ExistingObjectIsDirectory" || try == writeTries {
			return putError(err)
		}
	}
}

func (l *local) writeOnce(ctx context.Context, o store.Object) error {
	size, kind := int64(len(o.Body)), o.ContentType
	if kind == "" {
		kind = store.DefaultContentType
	}
	in := s3response.PutObjectInput{
		Bucket: &o.Bucket, Key: &o.Key, ContentLength: &size, ContentType: &kind,
		Metadata: o.Meta, Body: bytes.NewReader(o.Body),
	}
	if o.CreateOnly {
		free := "*"
		in.IfNoneMatch = &free
	}
	_, err := l.disk.write(ctx, in)
	return err
}

// putError is classify for writes: a bucket that is missing is a store that is not set up
// yet, so the verdict is that it is down.
func putError(err error) error {
	err = classify(err)
	if errors.Is(err, store.ErrNotFound) {
		return fault.Down(err)
	}
	return err
}
