package store

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/minio/minio-go/v7"
)

// removeBatch is the most objects that S3 removes in one request.
const removeBatch = 1000

// Remove implements Store. Where Probe has seen that the store removes several objects in one
// request they go together, else each alone, many at the same time.
func (s *S3) Remove(ctx context.Context, refs ...Ref) []error {
	errs := make([]error, len(refs))
	var work sync.WaitGroup
	start := func(indices []int, remove func()) {
		if err := s.acquire(ctx); err != nil {
			for _, i := range indices {
				errs[i] = fmt.Errorf("delete object %q: %w", refs[i], err)
			}
			return
		}
		work.Go(func() { defer s.release(); remove() })
	}
	if caps := s.caps.Load(); caps != nil && caps.MultiDelete {
		for _, batch := range removals(refs) {
			start(batch, func() { s.removeMany(ctx, refs, batch, errs) })
		}
	} else {
		for i, r := range refs {
			start([]int{i}, func() { errs[i] = s.Delete(ctx, r) })
		}
	}
	work.Wait()
	return compact(errs)
}

// removals divides refs, by their indices, into batches of one bucket each. What can be in no
// store is in none.
func removals(refs []Ref) [][]int {
	var all [][]int
	open := map[string]int{} // the batch of a bucket that has room, by its place in all
	for i, r := range refs {
		if CheckRef(r) != nil {
			continue
		}
		at, ok := open[r.Bucket]
		if !ok || len(all[at]) == removeBatch {
			at = len(all)
			open[r.Bucket] = at
			all = append(all, nil)
		}
		all[at] = append(all[at], i)
	}
	return all
}

// removeMany removes the objects at indices, all of one bucket, in one request, and sets the
// error of each. An answer that cannot be read says nothing about any of them.
func (s *S3) removeMany(ctx context.Context, refs []Ref, indices []int, errs []error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	at := make(map[string][]int, len(indices))
	queue := make(chan minio.ObjectInfo, len(indices))
	for _, i := range indices {
		key := refs[i].Key
		if at[key] = append(at[key], i); len(at[key]) == 1 {
			queue <- minio.ObjectInfo{Key: key}
		}
	}
	close(queue)
	for failed := range s.client.RemoveObjects(ctx, refs[indices[0]].Bucket, queue, minio.RemoveObjectsOptions{}) {
		err := classify(ctx, failed.Err)
		if err == nil || errors.Is(err, ErrNotFound) {
			continue
		}
		of, ok := at[failed.ObjectName]
		if !ok {
			of = indices
		}
		for _, i := range of {
			errs[i] = fmt.Errorf("delete object %q: %w", refs[i], err)
		}
	}
}
