package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/minio/minio-go/v7"
)

// Ranger is implemented by stores that can read a part of an object.
type Ranger interface {
	// GetRange reads up to n bytes of an object from offset on: fewer where the object ends
	// before, none where it ends at or before offset. Error: ErrNotFound.
	GetRange(ctx context.Context, r Ref, offset, n int64) ([]byte, error)
}

// GetRange reads up to n bytes of an object in s from offset on, as Ranger does. From a store
// that can only give whole objects it takes the whole object.
func GetRange(ctx context.Context, s Store, r Ref, offset, n int64) ([]byte, error) {
	if offset < 0 || n < 0 {
		return nil, fmt.Errorf("read object %q: %d bytes from byte %d are no range", r, n, offset)
	}
	if ranger, ok := s.(Ranger); ok {
		return ranger.GetRange(ctx, r, offset, n)
	}
	o, err := s.Get(ctx, r)
	if err != nil {
		return nil, err
	}
	return cutRange(o.Body, offset, n), nil
}

// cutRange returns up to n bytes of body from offset on.
func cutRange(body []byte, offset, n int64) []byte {
	size := int64(len(body))
	offset = min(offset, size)
	return body[offset : offset+min(n, size-offset)]
}

// GetRange implements Ranger.
func (m *Memory) GetRange(ctx context.Context, r Ref, offset, n int64) ([]byte, error) {
	o, err := m.Get(ctx, r)
	if err != nil {
		return nil, err
	}
	return cutRange(o.Body, offset, n), nil
}

// GetRange implements Ranger over whatever the store below can.
func (w *Writer) GetRange(ctx context.Context, r Ref, offset, n int64) ([]byte, error) {
	return GetRange(ctx, w.Store, r, offset, n)
}

// GetRange implements Ranger.
func (s *S3) GetRange(ctx context.Context, r Ref, offset, n int64) ([]byte, error) {
	body, err := s.getRange(ctx, r, offset, n)
	if err != nil {
		return nil, fmt.Errorf("read object %q from byte %d: %w", r, offset, err)
	}
	return body, nil
}

func (s *S3) getRange(ctx context.Context, r Ref, offset, n int64) ([]byte, error) {
	if CheckRef(r) != nil {
		return nil, ErrNotFound
	}
	if n == 0 {
		return nil, nil
	}
	var o minio.GetObjectOptions
	if err := o.SetRange(offset, offset+n-1); err != nil {
		return nil, err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	body, _, header, err := minio.Core{Client: s.client}.GetObject(ctx, r.Bucket, r.Key, o)
	if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return nil, nil // it ends before
	}
	if err != nil {
		return nil, classify(ctx, err)
	}
	defer body.Close() //nolint:errcheck // everything was read or an error is reported
	return readRange(ctx, body, header, offset, n)
}

// readRange reads the body of an answer. A store that knows no ranges sends all of the
// object: then what stands before is passed over.
func readRange(ctx context.Context, body io.Reader, h http.Header, offset, n int64) ([]byte, error) {
	if h.Get("Content-Range") == "" {
		if _, err := io.CopyN(io.Discard, body, offset); errors.Is(err, io.EOF) {
			return nil, nil
		} else if err != nil {
			return nil, classify(ctx, err)
		}
	}
	data, err := io.ReadAll(io.LimitReader(body, n))
	if err != nil {
		return nil, classify(ctx, fmt.Errorf("the body ended early: %w", err))
	}
	return data, nil
}
