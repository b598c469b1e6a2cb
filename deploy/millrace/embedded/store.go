package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/s3err"

	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/store"
)

const (
	// localPage is how many names are read from the folder at one time.
	localPage = 10000
	// localParallel is how many files one Put writes at one time.
	localParallel = 4
)

// local is the folder of an S3 as a store.Store, without the network.
type local struct {
	disk  *durable
	owner string // access key that owns the buckets made here

	mu sync.Mutex // one bucket is made at a time
}

var (
	_ store.Store  = (*local)(nil)
	_ store.Ranger = (*local)(nil)
)

// Store returns the objects of s as a store.Store that needs no network. Whoever reads
// through the server sees the same objects. Objects of one Put with the same body, type and
// metadata share one file, under a name each; replacing, deleting or changing one of them
// leaves the others as they are. One sync of the file system confirms the whole Put.
func (s *S3) Store() store.Store { return &local{disk: s.disk, owner: s.access} }

// Get implements store.Store.
func (l *local) Get(ctx context.Context, r store.Ref) (*store.Object, error) {
	o, err := l.get(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("read object %q: %w", r, err)
	}
	return o, nil
}

func (l *local) get(ctx context.Context, r store.Ref) (*store.Object, error) {
	if err := check(ctx, r); err != nil {
		return nil, err
	}
	whole := ""
	out, err := l.disk.GetObject(ctx, &s3.GetObjectInput{Bucket: &r.Bucket, Key: &r.Key, Range: &whole})
	if err != nil {
		return nil, classify(err)
	}
	defer out.Body.Close() //nolint:errcheck // only read
	body := make([]byte, value(out.ContentLength))
	if _, err := io.ReadFull(out.Body, body); err != nil {
		return nil, fault.Down(err)
	}
	return &store.Object{Ref: r, Body: body, ContentType: value(out.ContentType), Meta: metadata(out.Metadata)}, nil
}

// GetRange implements store.Ranger.
func (l *local) GetRange(ctx context.Context, r store.Ref, offset, n int64) ([]byte, error) {
	body, err := l.getRange(ctx, r, offset, n)
	if err != nil {
		return nil, fmt.Errorf("read object %q from byte %d: %w", r, offset, err)
	}
	return body, nil
}

func (l *local) getRange(ctx context.Context, r store.Ref, offset, n int64) ([]byte, error) {
	if err := check(ctx, r); err != nil || n == 0 {
		return nil, err
	}
	span := fmt.Sprintf("bytes=%d-%d", offset, offset+n-1)
	out, err := l.disk.GetObject(ctx, &s3.GetObjectInput{Bucket: &r.Bucket, Key: &r.Key, Range: &span})
	if code(err) == "InvalidRange" {
		return nil, nil // it ends before
	}
	if err != nil {
		return nil, classify(err)
	}
	defer out.Body.Close() //nolint:errcheck // only read
	body := make([]byte, value(out.ContentLength))
	if _, err := io.ReadFull(out.Body, body); err != nil {
		return nil, fault.Down(err)
	}
	return body, nil
}

// Stat implements store.Store.
func (l *local) Stat(ctx context.Context, r store.Ref) (store.Info, error) {
	err := check(ctx, r)
	var out *s3.HeadObjectOutput
	if err == nil {
		out, err = l.disk.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &r.Bucket, Key: &r.Key})
		err = classify(err)
	}
	if err != nil {
		return store.Info{}, fmt.Errorf("look up object %q: %w", r, err)
	}
	return store.Info{
		Ref: r, Size: value(out.ContentLength), Modified: value(out.LastModified), Meta: metadata(out.Metadata),
	}, nil
}

// List implements store.Store.
func (l *local) List(ctx context.Context, bucket, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		after, size := "", int32(localPage)
		for {
			out, err := l.page(ctx, bucket, prefix, after, size)
			if err != nil {
				yield(store.Info{}, fmt.Errorf("list %q in %q: %w", prefix, bucket, err))
				return
			}
			for _, o := range out.found {
				if !yield(o, nil) {
					return
				}
			}
			if after = out.next; after == "" {
				return
			}
		}
	}
}

// page is a part of a listing.
type page struct {
	found []store.Info
	next  string // where the next part begins, empty where there is none
}

func (l *local) page(ctx context.Context, bucket, prefix, after string, size int32) (page, error) {
	if err := ctx.Err(); err != nil {
		return page{}, fault.Down(err)
	}
	first := ""
	out, err := l.disk.ListObjectsV2(ctx, &s3.ListObjectsV2Input{
		Bucket: &bucket, Prefix: &prefix, ContinuationToken: &after, StartAfter: &first, MaxKeys: &size,
	})
	if err != nil {
		return page{}, classify(err)
	}
	var p page
	for _, o := range out.Contents {
		key := value(o.Key)
		if strings.HasSuffix(key, "/") {
			continue // a folder that some client made: no object of ours
		}
		p.found = append(p.found, store.Info{
			Ref: store.Ref{Bucket: bucket, Key: key}, Size: value(o.Size), Modified: value(o.LastModified),
		})
	}
	if value(out.IsTruncated) {
		p.next = value(out.NextContinuationToken)
	}
	return p, nil
}

// Delete implements store.Store.
func (l *local) Delete(ctx context.Context, r store.Ref) error {
	err := check(ctx, r)
	if err == nil {
		_, err = l.disk.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &r.Bucket, Key: &r.Key})
		err = classify(err)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("delete object %q: %w", r, err)
	}
	return nil
}

// EnsureBucket implements store.Store.
func (l *local) EnsureBucket(ctx context.Context, bucket string) (bool, error) {
	made, err := l.ensure(ctx, bucket)
	if err != nil {
		return false, fmt.Errorf("make bucket %q: %w", bucket, err)
	}
	return made, nil
}

func (l *local) ensure(ctx context.Context, bucket string) (bool, error) {
	if err := check(ctx, store.Ref{Bucket: bucket, Key: "x"}); err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.disk.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &bucket})
	if err == nil || !errors.Is(classify(err), store.ErrNotFound) {
		return false, classify(err)
	}
	acl, err := json.Marshal(auth.ACL{Owner: l.owner, Grantees: []auth.Grantee{
		{Permission: auth.PermissionFullControl, Access: l.owner, Type: types.TypeCanonicalUser},
	}})
	if err != nil {
		return false, fmt.Errorf("write the owner: %w", err)
	}
	err = l.disk.CreateBucket(ctx, &s3.CreateBucketInput{
		Bucket: &bucket, ObjectOwnership: types.ObjectOwnershipBucketOwnerEnforced,
		CreateBucketConfiguration: &types.CreateBucketConfiguration{},
	}, acl)
	switch code(err) {
	case "BucketAlreadyExists", "BucketAlreadyOwnedByYou":
		return false, nil // made through the server in between
	}
	return err == nil, classify(err)
}

// Ready implements store.Store: it waits until the file system has taken a sync.
func (l *local) Ready(ctx context.Context) error {
	if err := l.disk.group.join(ctx, 0); err != nil {
		return fmt.Errorf("sync the folder of the object store: %w", fault.Down(err))
	}
	return nil
}

// check refuses what cannot be there before the backend sees it, and work for which the
// time is over.
func check(ctx context.Context, r store.Ref) error {
	if err := ctx.Err(); err != nil {
		return fault.Down(err)
	}
	if store.CheckRef(r) != nil {
		return store.ErrNotFound
	}
	return nil
}

// classify turns an error of the backend into one of package store.
func classify(err error) error {
	if err == nil {
		return nil
	}
	switch code(err) {
	case "NoSuchKey", "NoSuchBucket", "NotFound":
		return fmt.Errorf("%w (%s)", store.ErrNotFound, code(err))
	case "PreconditionFailed":
		return store.ErrExists
	case "":
		return fault.Down(err)
	default: // the text of such an error is a page of XML
		return fault.Down(errors.New(code(err)))
	}
}

// code returns the S3 code of an error of the backend, empty where it has none.
func code(err error) string {
	if answer, ok := errors.AsType[s3err.S3Error](err); ok {
		return answer.BaseError().Code
	}
	return ""
}

func metadata(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// value returns what p points to, or the zero value.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
