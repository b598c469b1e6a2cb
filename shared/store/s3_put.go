package store

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/minio/minio-go/v7"
)

// The limits of batched puts.
const (
	// batchFrom is the number of objects of one bucket from which a batch pays.
	batchFrom = 8
	// batchObjects is the most objects in a batch.
	batchObjects = 300
	// batchBytes is the most bytes of bodies in a batch: it is built in memory.
	batchBytes = 16 << 20
	// batchBody is the largest body in bytes that goes into a batch.
	batchBody = 1 << 20
)

// Put implements Store. It returns when every object has its answer.
func (s *S3) Put(ctx context.Context, objects ...Object) []error {
	errs := make([]error, len(objects))
	single, batches := s.plan(objects, errs)
	var work sync.WaitGroup
	start := func(indices []int, put func()) {
		if err := s.acquire(ctx); err != nil {
			for _, i := range indices {
				errs[i] = err
			}
			return
		}
		work.Go(func() { defer s.release(); put() })
	}
	for _, batch := range batches {
		start(batch, func() { s.putBatch(ctx, objects, batch, errs) })
	}
	for _, i := range single {
		start([]int{i}, func() { errs[i] = s.putOne(ctx, objects[i]) })
	}
	work.Wait()
	for i, err := range errs {
		if err != nil {
			errs[i] = fmt.Errorf("put object %q: %w", objects[i].Ref, err)
		}
	}
	return compact(errs)
}

// plan divides the objects, by their indices, into those that go alone and those that go
// in batches. What no store would take gets its error here and goes nowhere.
func (s *S3) plan(objects []Object, errs []error) (single []int, batches [][]int) {
	caps := s.caps.Load()
	byBucket := map[string][]int{}
	for i, o := range objects {
		switch errs[i] = Check(o); {
		case errs[i] != nil:
		case caps != nil && caps.BatchedPut && !o.CreateOnly && len(o.Body) <= batchBody:
			byBucket[o.Bucket] = append(byBucket[o.Bucket], i)
		default:
			single = append(single, i)
		}
	}
	for _, bucket := range slices.Sorted(maps.Keys(byBucket)) {
		rest := byBucket[bucket]
		for len(rest) >= batchFrom {
			n := fitting(objects, rest)
			batches, rest = append(batches, rest[:n]), rest[n:]
		}
		single = append(single, rest...)
	}
	return single, batches
}

// fitting returns how many of the objects at indices fit into one batch: at least one.
func fitting(objects []Object, indices []int) int {
	size := 0
	for n, i := range indices {
		size += len(objects[i].Body)
		if n > 0 && (n == batchObjects || size > batchBytes) {
			return n
		}
	}
	return len(indices)
}

// putOne stores one object in one request. A create-only object is sent once: a request
// that was repeated after its answer got lost would find the key taken by itself.
func (s *S3) putOne(ctx context.Context, o Object) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	client := s.client
	opts := minio.PutObjectOptions{
		UserMetadata: o.Meta,
		ContentType:  o.contentType(),
		// The store verifies the MD5, which is signed, over http and https alike. Signing the
		// body as well would frame it in chunks and hash it twice more.
		SendContentMd5:       true,
		DisableContentSha256: true,
		DisableMultipart:     true,
	}
	if o.CreateOnly {
		client = s.once.Client
		opts.SetMatchETagExcept("*")
	}
	_, err := client.PutObject(ctx, o.Bucket, o.Key, bytes.NewReader(o.Body), int64(len(o.Body)), opts)
	return putError(ctx, err)
}

// putError is classify for writes: a bucket that is missing is a store that is not set up
// yet, so the verdict is that it is down.
func putError(ctx context.Context, err error) error {
	return missingIsDown(classify(ctx, err))
}

// putBatch stores the objects at indices, all of one bucket, in one request, and sets the
// error of each. Where the store refuses the batch each object is put by itself, so that
// each gets its own answer and replaces what the store unpacked before it saw that, say,
// the batch was damaged on its way.
func (s *S3) putBatch(ctx context.Context, objects []Object, indices []int, errs []error) {
	err := s.snowball(ctx, objects, indices)
	answer := minio.ToErrorResponse(err)
	refused := err != nil && answer.StatusCode >= http.StatusBadRequest && answer.StatusCode < http.StatusInternalServerError
	for _, i := range indices {
		if refused {
			errs[i] = s.putOne(ctx, objects[i])
		} else {
			errs[i] = putError(ctx, err)
		}
	}
}

// snowball sends the objects at indices as one archive that the store unpacks.
func (s *S3) snowball(ctx context.Context, objects []Object, indices []int) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	queue := make(chan minio.SnowballObject, len(indices))
	for _, i := range indices {
		o := objects[i]
		queue <- minio.SnowballObject{
			Key: o.Key, Size: int64(len(o.Body)), Content: bytes.NewReader(o.Body), Headers: headers(o),
		}
	}
	close(queue)
	return s.client.PutObjectsSnowball(ctx, objects[indices[0]].Bucket, minio.SnowballOptions{
		InMemory: true, // compressing costs the store more than it saves the network
		Opts: minio.PutObjectOptions{
			SendContentMd5: true, DisableContentSha256: true, DisableMultipart: true,
		},
	}, queue)
}

// headers returns the form in which the metadata of an object travels in a batch.
func headers(o Object) http.Header {
	h := http.Header{"Content-Type": {o.contentType()}}
	for name, value := range o.Meta {
		h.Set("X-Amz-Meta-"+name, value)
	}
	return h
}
