package store

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPlanOfAPut(t *testing.T) {
	t.Parallel()
	many := func(n, size int, change func(i int, o *Object)) []Object {
		objects := make([]Object, n)
		for i := range objects {
			objects[i] = Object{Ref: Ref{Bucket: "b", Key: fmt.Sprint(i)}, Body: make([]byte, size)}
			if change != nil {
				change(i, &objects[i])
			}
		}
		return objects
	}
	tests := []struct {
		name    string
		objects []Object
		batched bool
		single  int
		batches []int
	}{
		{"without batches everything goes alone", many(20, 1, nil), false, 20, nil},
		{"a few go alone", many(batchFrom-1, 1, nil), true, batchFrom - 1, nil},
		{"enough go together", many(batchFrom, 1, nil), true, 0, []int{batchFrom}},
		{"a batch has a largest number", many(2*batchObjects+3, 1, nil), true, 3, []int{batchObjects, batchObjects}},
		{"a batch has a largest size", many(40, batchBody, nil), true, 0, []int{16, 16, 8}},
		{"large bodies go alone", many(20, batchBody+1, nil), true, 20, nil},
		{"create-only goes alone", many(20, 1, func(i int, o *Object) { o.CreateOnly = i < 5 }), true, 5, []int{15}},
		{"buckets have batches of their own", many(20, 1, func(i int, o *Object) {
			o.Bucket = fmt.Sprint("b", i%2)
		}), true, 0, []int{10, 10}},
		{"what no store takes goes nowhere", many(20, 1, func(i int, o *Object) {
			if i == 3 {
				o.Key = "../x"
			}
		}), true, 0, []int{19}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &S3{}
			s.caps.Store(&Capabilities{BatchedPut: tt.batched})
			errs := make([]error, len(tt.objects))
			single, batches := s.plan(tt.objects, errs)
			require.Len(t, single, tt.single)
			var sizes []int
			seen := map[int]bool{}
			for _, b := range batches {
				sizes = append(sizes, len(b))
				single = append(single, b...)
			}
			require.Equal(t, tt.batches, sizes)
			for _, i := range single {
				require.False(t, seen[i], "object %d goes twice", i)
				require.NoError(t, errs[i])
				seen[i] = true
			}
		})
	}
}

func TestBatchThatWasRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int // of the answer to the batch
		single int64
	}{
		{"goes again one by one where the store refused it", http.StatusBadRequest, 20},
		{"does not go again where the store is down", http.StatusServiceUnavailable, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var single atomic.Int64
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case strings.Contains(r.URL.Path, snowballPrefix):
					w.WriteHeader(tt.status)
					_, _ = w.Write([]byte("<Error><Code>Code</Code></Error>"))
				case r.URL.Path == "/bucket/7":
					single.Add(1)
					w.WriteHeader(http.StatusForbidden)
				default:
					single.Add(1)
				}
			}))
			t.Cleanup(web.Close)
			s, err := OpenS3(t.Context(), S3Settings{Endpoint: strings.TrimPrefix(web.URL, "http://"), Timeout: 10 * time.Second})
			require.NoError(t, err)
			t.Cleanup(s.Close)
			s.caps.Store(&Capabilities{BatchedPut: true})
			var objects []Object
			for i := range 20 {
				objects = append(objects, Object{Ref: Ref{Bucket: "bucket", Key: fmt.Sprint(i)}})
			}
			errs := s.Put(t.Context(), objects...)
			require.Equal(t, tt.single, single.Load())
			for i, err := range errs {
				if tt.single > 0 && i != 7 {
					require.NoError(t, err)
				} else {
					require.Error(t, err)
				}
			}
		})
	}
}
