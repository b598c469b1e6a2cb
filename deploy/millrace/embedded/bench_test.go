package embedded

import (
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/storetest"
)

// benchBody is the size of a usual document in bytes.
const benchBody = 2500

// BenchmarkPut measures stored objects per second. Each operation is one call of Put by one
// of many writers, with the views of one document or a single object.
func BenchmarkPut(b *testing.B) {
	minio := func(b *testing.B) store.Store {
		set := storetest.MinIO(b)
		set.Bucket = "bench"
		s, err := store.OpenS3(b.Context(), set)
		require.NoError(b, err)
		b.Cleanup(s.Close)
		_, err = s.EnsureBucket(b.Context(), set.Bucket)
		require.NoError(b, err)
		_, err = s.Probe(b.Context())
		require.NoError(b, err)
		return s
	}
	local := func(*testing.B) store.Store { return shared.Store() }
	web := func(b *testing.B) store.Store { return client(b) }
	for _, bb := range []struct {
		name    string
		open    func(b *testing.B) store.Store
		writers int
		views   int
		gather  bool
	}{
		{"embedded over http, 1 writer, single objects", web, 1, 1, false},
		{"embedded over http, 16 writers, single objects", web, 16, 1, false},
		{"embedded in process, 1 writer, three views", local, 1, 3, false},
		{"embedded in process, 16 writers, three views", local, 16, 3, false},
		{"embedded in process, 64 writers, three views", local, 64, 3, false},
		{"embedded in process, 64 writers, three views, gathered", local, 64, 3, true},
		{"MinIO, 16 writers, single objects", minio, 16, 1, false},
		{"MinIO, 192 writers, three views, gathered", minio, 192, 3, true},
	} {
		b.Run(bb.name, func(b *testing.B) {
			s := bb.open(b)
			if bb.gather {
				w := store.NewWriter(s, store.WriterSettings{})
				b.Cleanup(func() { require.NoError(b, w.Close(context.Background())) })
				s = w
			}
			measure(b, s, bb.writers, bb.views)
		})
	}
}

func measure(b *testing.B, s store.Store, writers, count int) {
	bucket := bucket(b, s)
	var serial atomic.Int64
	b.SetParallelism((writers + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	before := syncs.began.Load()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			body := make([]byte, benchBody)
			_, _ = rand.Read(body)
			objects := views(bucket, fmt.Sprintf("%06d.json", serial.Add(1)), "")[:count]
			for i := range objects {
				objects[i].Body = body
			}
			for _, err := range s.Put(b.Context(), objects...) {
				if err != nil {
					b.Error(err)
				}
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N*count)/b.Elapsed().Seconds(), "objects/s")
	b.ReportMetric(float64(syncs.began.Load()-before)/float64(b.N), "syncs/op")
}
