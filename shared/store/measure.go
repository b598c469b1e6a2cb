package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
)

// What Measure writes.
const (
	// measuredBody is the size of an object in bytes, about that of a document.
	measuredBody = 2 << 10
	// measuredSingle, measuredParallel and measuredBatched are how many objects are put one
	// after the other, at the same time, and in batches.
	measuredSingle   = 40
	measuredParallel = 400
	measuredBatched  = 4 * batchObjects
)

// Timings are how quick a store was, with objects of 2 KiB. They are of one short run.
type Timings struct {
	// PutP50 is the median of single puts, one after the other.
	PutP50 time.Duration `json:"put_p50_ns"`
	// ParallelPuts and BatchedObjects are objects per second, with as many requests at the same
	// time as S3Settings.Parallel allows. BatchedObjects is 0 where the store takes no batches.
	ParallelPuts   float64 `json:"parallel_puts_per_second"`
	BatchedObjects float64 `json:"batched_objects_per_second"`
	// Missing is how many objects a listing did not show that were stored without an error.
	Missing int `json:"missing"`
}

// Measure puts objects under _probe/ in S3Settings.Bucket, lists them and removes them
// again. It comes after Probe, which says whether batches are taken.
func (s *S3) Measure(ctx context.Context) (t Timings, err error) {
	prefix := probePrefix + strings.ToLower(rand.Text()) + "/"
	defer func() {
		if left := s.clear(context.WithoutCancel(ctx), prefix); left != nil {
			err = errors.Join(err, fmt.Errorf("remove what was measured with: %w", left))
		}
	}()
	body := bytes.Repeat([]byte("x"), measuredBody)
	objects := func(kind string, n int) []Object {
		list := make([]Object, n)
		for i := range list {
			list[i] = Object{Ref: Ref{Bucket: s.set.Bucket, Key: fmt.Sprintf("%s%s/%d.json", prefix, kind, i)}, Body: body}
		}
		return list
	}
	var took []time.Duration
	for _, o := range objects("single", measuredSingle) {
		began := time.Now()
		if err := s.putOne(ctx, o); err != nil {
			return t, fmt.Errorf("measure the object store: %w", err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.PutP50 = took[len(took)/2]
	if t.ParallelPuts, err = s.rate(ctx, objects("parallel", measuredParallel), s.putEach); err != nil {
		return t, err
	}
	stored := measuredSingle + measuredParallel
	if caps := s.caps.Load(); caps != nil && caps.BatchedPut {
		if t.BatchedObjects, err = s.rate(ctx, objects("batched", measuredBatched), s.Put); err != nil {
			return t, err
		}
		stored += measuredBatched
	}
	t.Missing = stored
	for _, err := range s.List(ctx, s.set.Bucket, prefix) {
		if err != nil {
			return t, fmt.Errorf("measure the object store: %w", err)
		}
		t.Missing--
	}
	return t, nil
}

// rate returns how many of the objects were stored in a second.
func (s *S3) rate(ctx context.Context, objects []Object, put func(context.Context, ...Object) []error) (float64, error) {
	began := time.Now()
	if err := errors.Join(put(ctx, objects...)...); err != nil {
		return 0, fmt.Errorf("measure the object store: %w", err)
	}
	return float64(len(objects)) / time.Since(began).Seconds(), nil
}

// putEach puts each object in a request of its own, many at the same time.
func (s *S3) putEach(ctx context.Context, objects ...Object) []error {
	errs := make([]error, len(objects))
	var work sync.WaitGroup
	for i, o := range objects {
		if errs[i] = s.acquire(ctx); errs[i] != nil {
			continue
		}
		work.Go(func() { defer s.release(); errs[i] = s.putOne(ctx, o) })
	}
	work.Wait()
	return compact(errs)
}

// clear removes everything below a prefix.
func (s *S3) clear(ctx context.Context, prefix string) error {
	defer s.tidy(ctx, prefix)
	var refs []Ref
	for info, err := range s.List(ctx, s.set.Bucket, prefix) {
		if err != nil {
			return err
		}
		refs = append(refs, info.Ref)
	}
	if caps := s.caps.Load(); caps != nil && caps.MultiDelete {
		return classify(ctx, s.deleteMany(ctx, s.set.Bucket, refs))
	}
	var errs []error
	for _, r := range refs {
		errs = append(errs, s.Delete(ctx, r))
	}
	return errors.Join(errs...)
}

// deleteMany removes objects of a bucket, many in one request.
func (s *S3) deleteMany(ctx context.Context, bucket string, refs []Ref) error {
	queue := make(chan minio.ObjectInfo, len(refs))
	for _, r := range refs {
		queue <- minio.ObjectInfo{Key: r.Key}
	}
	close(queue)
	var errs []error
	for failed := range s.client.RemoveObjects(ctx, bucket, queue, minio.RemoveObjectsOptions{}) {
		errs = append(errs, failed.Err)
	}
	return errors.Join(errs...)
}

// RemoveBucket removes an empty bucket.
func (s *S3) RemoveBucket(ctx context.Context, bucket string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.client.RemoveBucket(ctx, bucket); err != nil {
		return fmt.Errorf("remove bucket %q: %w", bucket, classify(ctx, err))
	}
	return nil
}
