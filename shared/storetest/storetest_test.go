package storetest_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/storetest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) store.Store { return store.NewMemory(nil) })
}

func TestWriterOverMemory(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store { return writer(t, store.NewMemory(nil)) })
}

func TestRenamedMemory(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) store.Store {
		return store.Rename(store.NewMemory(nil), store.Names{"llm-raw": "acme-raw"})
	})
}

func TestMinIO(t *testing.T) {
	t.Parallel()
	set := storetest.MinIO(t)
	for _, tt := range []struct {
		name  string
		probe bool
		open  func(t *testing.T, s store.Store) store.Store
	}{
		{"each object by itself", false, nil},
		{"in batches", true, nil},
		{"in batches through the writer", true, writer},
		{"in buckets that keep versions", true, func(t *testing.T, s store.Store) store.Store { return storetest.KeepVersions(t, s, set) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := minio(t, set, tt.probe)
			storetest.Run(t, func(t *testing.T) store.Store {
				if tt.open != nil {
					return tt.open(t, s)
				}
				return s
			})
		})
	}
}

// minio opens the store in set, with a bucket to probe in.
func minio(t *testing.T, set store.S3Settings, probe bool) *store.S3 {
	t.Helper()
	set.Bucket = storetest.Bucket()
	s, err := store.OpenS3(t.Context(), set)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	_, err = s.EnsureBucket(t.Context(), set.Bucket)
	require.NoError(t, err)
	if probe {
		caps, err := s.Probe(t.Context())
		require.NoError(t, err)
		require.True(t, caps.BatchedPut)
	}
	return s
}

func writer(t *testing.T, s store.Store) store.Store {
	t.Helper()
	w := store.NewWriter(s, store.WriterSettings{})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, w.Close(ctx))
	})
	return w
}
