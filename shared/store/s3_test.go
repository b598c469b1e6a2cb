package store_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/storetest"
)

// server returns a store over a server that answers as handle says.
func server(t *testing.T, handle http.HandlerFunc) *store.S3 {
	t.Helper()
	web := httptest.NewServer(handle)
	t.Cleanup(web.Close)
	s, err := store.OpenS3(t.Context(), store.S3Settings{
		Endpoint: strings.TrimPrefix(web.URL, "http://"), AccessKey: "key", SecretKey: "secret",
		Timeout: 2 * time.Second, Bucket: "bucket",
	})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// answer sends an S3 error.
func answer(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>text</Message></Error>", code)
}

func TestS3VerdictOfEveryAnswer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status int
		code   string
		is     error // nil: the store is down
	}{
		{http.StatusPreconditionFailed, "PreconditionFailed", store.ErrExists},
		{http.StatusNotFound, "NoSuchKey", store.ErrNotFound},
		{http.StatusNotFound, "NoSuchBucket", store.ErrNotFound},
		{http.StatusNotFound, "Other", store.ErrNotFound},
		{http.StatusForbidden, "AccessDenied", nil},
		{http.StatusForbidden, "SignatureDoesNotMatch", nil},
		{http.StatusBadRequest, "BadDigest", nil},
		{http.StatusConflict, "ConditionalRequestConflict", nil},
		{http.StatusConflict, "OperationAborted", nil},
		{http.StatusRequestEntityTooLarge, "EntityTooLarge", nil},
		{http.StatusInsufficientStorage, "XMinioStorageFull", nil},
		{http.StatusNotImplemented, "NotImplemented", nil},
		{http.StatusInternalServerError, "InternalError", nil},
		{http.StatusServiceUnavailable, "SlowDown", nil},
		{http.StatusTeapot, "", nil},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.status, " ", tt.code), func(t *testing.T) {
			t.Parallel()
			s := server(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, tt.status, tt.code) })
			put := s.Put(t.Context(), object("bucket", "key", "x"))[0]
			_, get := s.Get(t.Context(), store.Ref{Bucket: "bucket", Key: "key"})
			for name, err := range map[string]error{"put": put, "get": get} {
				require.ErrorContains(t, err, "bucket/key", name)
				require.NotEqual(t, fault.Permanent, fault.Of(err).Kind, name)
				if tt.is == nil {
					require.Equal(t, fault.Unavailable, fault.Of(err).Kind, name)
					require.NotErrorIs(t, err, store.ErrNotFound, name)
					require.NotErrorIs(t, err, store.ErrExists, name)
				} else {
					require.ErrorIs(t, err, tt.is, name)
				}
			}
		})
	}
}

func TestS3SaysDownWhereNobodyAnswers(t *testing.T) {
	t.Parallel()
	t.Run("in time", func(t *testing.T) {
		t.Parallel()
		release := make(chan struct{})
		s := server(t, func(http.ResponseWriter, *http.Request) { <-release })
		t.Cleanup(func() { close(release) })
		began := time.Now()
		err := s.Put(t.Context(), object("bucket", "key", "x"))[0]
		require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
		require.ErrorContains(t, err, "within 2s")
		require.Less(t, time.Since(began), 10*time.Second)
	})
	t.Run("at all", func(t *testing.T) {
		t.Parallel()
		s, err := store.OpenS3(t.Context(), store.S3Settings{Endpoint: "127.0.0.1:1", Timeout: time.Second})
		require.NoError(t, err)
		err = s.Put(t.Context(), object("bucket", "key", "x"))[0]
		require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
		require.Equal(t, fault.Unavailable, fault.Of(s.Ready(t.Context())).Kind)
		_, err = s.Probe(t.Context())
		require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
	})
	t.Run("with all of the body", func(t *testing.T) {
		t.Parallel()
		s := server(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			_, _ = w.Write([]byte("short"))
		})
		_, err := s.Get(t.Context(), store.Ref{Bucket: "bucket", Key: "key"})
		require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	})
}

func TestS3SendsACreateOnlyObjectOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path == "/bucket/once" && r.Header.Get("If-None-Match") != "*" {
			t.Error("the condition is missing")
		}
		answer(w, http.StatusServiceUnavailable, "SlowDown")
	})
	once := object("bucket", "once", "x")
	once.CreateOnly = true
	require.Error(t, s.Put(t.Context(), once)[0])
	require.Equal(t, int64(1), asked.Load())
	require.Error(t, s.Put(t.Context(), object("bucket", "again", "x"))[0])
	require.Greater(t, asked.Load(), int64(2), "what may be repeated is repeated")
}

func TestS3BoundsWhatItWritesAtOneTime(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int64
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				return
			}
		}
	}))
	t.Cleanup(web.Close)
	s, err := store.OpenS3(t.Context(), store.S3Settings{Endpoint: strings.TrimPrefix(web.URL, "http://"), Parallel: 3})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	var objects []store.Object
	for i := range 100 {
		objects = append(objects, object("bucket", fmt.Sprint(i), "x"))
	}
	require.Nil(t, s.Put(t.Context(), objects...))
	require.LessOrEqual(t, most.Load(), int64(3))
}

func TestS3ReadyBelievesItsLastAnswerForAWhile(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusNoContent)
		}
	})
	for range 10 {
		require.NoError(t, s.Ready(t.Context()))
	}
	require.Equal(t, int64(2), asked.Load(), "one put and one delete")
}

// damage is a transport that changes a byte of each body on its way.
type damage struct{ http.RoundTripper }

func (d damage) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body = bytes.Replace(body, []byte("precious"), []byte("precioUs"), 1)
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return d.RoundTripper.RoundTrip(r)
}

func TestRealMinIO(t *testing.T) {
	t.Parallel()
	set := storetest.MinIO(t)
	set.Bucket = "probes"
	s, err := store.OpenS3(t.Context(), set)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	require.ErrorIs(t, s.Ready(t.Context()), store.ErrNotFound, "the buckets are not there yet")
	_, err = s.EnsureBucket(t.Context(), set.Bucket)
	require.NoError(t, err)
	require.NoError(t, s.Ready(t.Context()))

	t.Run("the probe sees what it can do and leaves nothing", func(t *testing.T) {
		t.Parallel()
		caps, err := s.Probe(t.Context())
		require.NoError(t, err)
		require.Equal(t, store.Capabilities{
			ConditionalPut: true, BatchedPut: true, Versioning: true, Lifecycle: true, Lock: true,
			Checksums: true, MultiDelete: true, ListAfterPut: true,
		}, caps, "encryption needs a key server")
		took, err := s.Measure(t.Context())
		require.NoError(t, err)
		require.Positive(t, took.PutP50)
		require.Positive(t, took.ParallelPuts)
		require.Positive(t, took.BatchedObjects)
		require.Zero(t, took.Missing)
		for info, err := range s.List(t.Context(), set.Bucket, "") {
			require.NoError(t, err)
			t.Errorf("the probe left %q", info.Key)
		}
	})
	t.Run("where versions are kept, none of what was tried is left", func(t *testing.T) {
		t.Parallel()
		kept := set
		kept.Bucket = "versions"
		s, err := store.OpenS3(t.Context(), kept)
		require.NoError(t, err)
		t.Cleanup(s.Close)
		v := storetest.KeepVersions(t, s, kept)
		_, err = v.EnsureBucket(t.Context(), kept.Bucket)
		require.NoError(t, err)
		have, err := s.Versions(t.Context(), kept.Bucket)
		require.NoError(t, err)
		require.Equal(t, store.Versions{Kept: true}, have)
		caps, err := s.Probe(t.Context())
		require.NoError(t, err)
		require.True(t, caps.Versioned)
		require.True(t, caps.ConditionalPut)
		_, err = s.Measure(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.Ready(t.Context()))
		n, err := v.Count(t.Context(), kept.Bucket)
		require.NoError(t, err)
		require.Zero(t, n)

		o := object(kept.Bucket, "o", "precious")
		require.Nil(t, s.Put(t.Context(), o))
		require.NoError(t, s.Delete(t.Context(), o.Ref))
		n, err = v.Count(t.Context(), kept.Bucket)
		require.NoError(t, err)
		require.Equal(t, 2, n, "what was deleted, and that it was")
		require.NoError(t, s.Erase(t.Context(), kept.Bucket, "o"))
		n, err = v.Count(t.Context(), kept.Bucket)
		require.NoError(t, err)
		require.Zero(t, n)
	})
	t.Run("a body damaged on its way is refused, alone and in a batch", func(t *testing.T) {
		t.Parallel()
		bad := set
		bad.Transport = damage{http.DefaultTransport}
		bad.Bucket = "damaged"
		d, err := store.OpenS3(t.Context(), bad)
		require.NoError(t, err)
		_, err = d.EnsureBucket(t.Context(), bad.Bucket)
		require.NoError(t, err)
		_, err = d.Probe(t.Context())
		require.NoError(t, err)
		var objects []store.Object
		for i := range 20 {
			objects = append(objects, object(bad.Bucket, fmt.Sprint(i), fmt.Sprint("precious ", i)))
		}
		require.Equal(t, fault.Unavailable, fault.Of(d.Put(t.Context(), objects[0])[0]).Kind)
		_, err = d.Stat(t.Context(), objects[0].Ref)
		require.ErrorIs(t, err, store.ErrNotFound)
		for _, err := range d.Put(t.Context(), objects...) {
			require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
		}
		// MinIO unpacks while it reads, so that what it refused may be there: a repetition
		// puts it right.
		require.Nil(t, s.Put(t.Context(), objects...))
		for _, o := range objects {
			got, err := d.Get(t.Context(), o.Ref)
			require.NoError(t, err)
			require.Equal(t, string(o.Body), string(got.Body))
		}
	})
}
