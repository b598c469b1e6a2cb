package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/jobspy/millrace/shared/fault"
)

// Get implements Store. An object over S3Settings.MaxBody is an error.
func (s *S3) Get(ctx context.Context, r Ref) (*Object, error) {
	o, err := s.get(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("read object %q: %w", r, err)
	}
	return o, nil
}

func (s *S3) get(ctx context.Context, r Ref) (*Object, error) {
	if CheckRef(r) != nil {
		return nil, ErrNotFound
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	body, info, header, err := minio.Core{Client: s.client}.GetObject(ctx, r.Bucket, r.Key, minio.GetObjectOptions{})
	if err != nil {
		return nil, classify(ctx, err)
	}
	defer body.Close() //nolint:errcheck // everything was read or an error is reported
	if info.Size > s.set.MaxBody {
		return nil, fmt.Errorf("it has %d bytes, the limit is %d", info.Size, s.set.MaxBody)
	}
	data := make([]byte, info.Size)
	if _, err := io.ReadFull(body, data); err != nil {
		return nil, classify(ctx, fmt.Errorf("the body ended early: %w", err))
	}
	return &Object{Ref: r, Body: data, ContentType: info.ContentType, Meta: userMeta(header)}, nil
}

// userMeta returns the user metadata in the headers of an answer.
func userMeta(h http.Header) map[string]string {
	meta := map[string]string{}
	for name := range h {
		if rest, ok := strings.CutPrefix(strings.ToLower(name), "x-amz-meta-"); ok {
			meta[rest] = h.Get(name)
		}
	}
	return meta
}

// Stat implements Store.
func (s *S3) Stat(ctx context.Context, r Ref) (Info, error) {
	if CheckRef(r) != nil {
		return Info{}, fmt.Errorf("look up object %q: %w", r, ErrNotFound)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	info, err := s.client.StatObject(ctx, r.Bucket, r.Key, minio.StatObjectOptions{})
	if err != nil {
		return Info{}, fmt.Errorf("look up object %q: %w", r, classify(ctx, err))
	}
	return Info{Ref: r, Size: info.Size, Modified: info.LastModified, Meta: userMeta(info.Metadata)}, nil
}

// List implements Store. It reads the names page by page, so that a bucket of any size
// needs little memory.
func (s *S3) List(ctx context.Context, bucket, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for found := range s.client.ListObjectsIter(ctx, bucket, minio.ListObjectsOptions{
			Prefix: prefix, Recursive: true, MaxKeys: listPage,
		}) {
			if found.Err != nil {
				yield(Info{}, fmt.Errorf("list %q in %q: %w", prefix, bucket, classify(ctx, found.Err)))
				return
			}
			if strings.HasSuffix(found.Key, "/") {
				continue // a folder that some client made: no object of ours
			}
			ref := Ref{Bucket: bucket, Key: found.Key}
			if !yield(Info{Ref: ref, Size: found.Size, Modified: found.LastModified}, nil) {
				return
			}
		}
		if err := context.Cause(ctx); err != nil {
			yield(Info{}, fmt.Errorf("list %q in %q: %w", prefix, bucket, fault.Down(err)))
		}
	}
}

// Delete implements Store.
func (s *S3) Delete(ctx context.Context, r Ref) error {
	if CheckRef(r) != nil {
		return nil // nothing can be there
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	err := classify(ctx, s.client.RemoveObject(ctx, r.Bucket, r.Key, minio.RemoveObjectOptions{}))
	if err == nil || errors.Is(err, ErrNotFound) {
		return nil
	}
	return fmt.Errorf("delete object %q: %w", r, err)
}

// EnsureBucket implements Store.
func (s *S3) EnsureBucket(ctx context.Context, bucket string) (bool, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	there, err := s.client.BucketExists(ctx, bucket)
	if err != nil {
		return false, fmt.Errorf("look up bucket %q: %w", bucket, classify(ctx, err))
	}
	if there {
		return false, nil
	}
	err = s.client.MakeBucket(ctx, bucket, minio.MakeBucketOptions{Region: s.set.Region})
	taken := []string{"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}
	if err != nil && slices.Contains(taken, minio.ToErrorResponse(err).Code) {
		return false, nil // somebody else made it in between
	}
	if err != nil {
		return false, fmt.Errorf("make bucket %q: %w", bucket, classify(ctx, err))
	}
	return true, nil
}

// Ready implements Store: it writes an object and removes it. The answer is kept for
// S3Settings.ReadyEvery, and concurrent callers share one request.
func (s *S3) Ready(ctx context.Context) error {
	s.readyMu.Lock()
	defer s.readyMu.Unlock()
	if !s.readyAt.IsZero() && time.Since(s.readyAt) < s.set.ReadyEvery {
		return s.readyIs
	}
	o := Object{Ref: Ref{Bucket: s.set.Bucket, Key: probePrefix + "ready"}, Body: []byte("{}")}
	err := s.putOne(ctx, o)
	if err == nil {
		err = s.Delete(ctx, o.Ref)
		s.tidy(ctx, o.Key)
	}
	if err != nil {
		err = fmt.Errorf("write to the object store %q: %w", s.set.Endpoint, err)
	}
	if ctx.Err() == nil {
		s.readyAt, s.readyIs = time.Now(), err
	}
	return err
}
