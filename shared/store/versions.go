package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/minio/minio-go/v7"
)

// Versioner is implemented by stores whose buckets may keep what is replaced and deleted.
type Versioner interface {
	// Versions says what a bucket does with what is replaced or deleted.
	Versions(ctx context.Context, bucket string) (Versions, error)
	// Erase removes all objects below a prefix with all their versions, for good.
	Erase(ctx context.Context, bucket, prefix string) error
}

// Versions says what a bucket does with what is replaced or deleted.
type Versions struct {
	Kept bool // it stays as an older version
	// Expire says that a rule of the bucket removes older versions after some days.
	Expire bool
}

// Versions implements Versioner. A store that does not know versions keeps none.
func (s *S3) Versions(ctx context.Context, bucket string) (v Versions, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	c, err := s.client.GetBucketVersioning(ctx, bucket)
	if _, answered := errors.AsType[minio.ErrorResponse](err); answered && !errors.Is(classify(ctx, err), ErrNotFound) {
		return v, nil
	}
	if err != nil {
		return v, fmt.Errorf("read the versioning of bucket %q: %w", bucket, classify(ctx, err))
	}
	if v.Kept = c.Enabled(); !v.Kept {
		return v, nil
	}
	rules, err := s.client.GetBucketLifecycle(ctx, bucket)
	if _, answered := errors.AsType[minio.ErrorResponse](err); err != nil && !answered {
		return v, fmt.Errorf("read the lifecycle of bucket %q: %w", bucket, classify(ctx, err))
	}
	if err == nil {
		for _, r := range rules.Rules {
			v.Expire = v.Expire || r.Status == "Enabled" && !r.NoncurrentVersionExpiration.IsDaysNull()
		}
	}
	return v, nil
}

// Erase implements Versioner.
func (s *S3) Erase(ctx context.Context, bucket, prefix string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	// The listing has to come to its end, or its goroutine stays.
	var found []minio.ObjectInfo
	for o := range s.client.ListObjects(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			return fmt.Errorf("erase %s/%s: %w", bucket, prefix, classify(ctx, o.Err))
		}
		found = append(found, o)
	}
	queue := make(chan minio.ObjectInfo, len(found))
	for _, o := range found {
		queue <- minio.ObjectInfo{Key: o.Key, VersionID: o.VersionID}
	}
	close(queue)
	var errs []error
	for failed := range s.client.RemoveObjects(ctx, bucket, queue, minio.RemoveObjectsOptions{}) {
		errs = append(errs, classify(ctx, failed.Err))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("erase %s/%s: %w", bucket, prefix, err)
	}
	return nil
}

// tidy removes the older versions of what the store was tried with and what was deleted again.
// What a lock keeps stays until its time: it is no reason to do without the store.
func (s *S3) tidy(ctx context.Context, prefix string) {
	if caps := s.caps.Load(); caps != nil && caps.Versioned {
		_ = s.Erase(ctx, s.set.Bucket, prefix)
	}
}
