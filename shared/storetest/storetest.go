// Package storetest holds the conformance suite that every store.Store passes, and starts
// a real MinIO for tests. It is only for tests.
package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/store"
)

// caseTimeout bounds each case, so that a store that hangs fails.
const caseTimeout = 60 * time.Second

// Run checks that what open returns behaves as package store says. It may return the same
// store each time: every case has its own bucket.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	t.Helper()
	cases := []struct {
		name string
		run  func(t *testing.T, s *suite)
	}{
		{"what was put is read, described, listed and deleted", roundTrip},
		{"metadata and content type come back as they were", metadata},
		{"a put replaces all of an object", replace},
		{"a create-only put leaves what is there", createOnly},
		{"of 32 create-only puts one wins", oneWinner},
		{"one call stores many objects with an error for each", manyObjects},
		{"what is not there is not found", notFound},
		{"a put into a missing bucket says that the store is down", missingBucket},
		{"a listing shows the prefix in order over more than one page", listing},
		{"a listing can be left early", listingLeft},
		{"odd keys work", oddKeys},
		{"keys that mean no file are refused", badKeys},
		{"empty and large bodies work", bodies},
		{"a part of an object is read by itself", ranges},
		{"equal bodies are separate objects", equalBodies},
		{"many objects are removed in one call", removeMany},
		{"concurrent writers do not disturb each other", writers},
		{"a context that is over ends everything", cancelled},
		{"a bucket is made once", buckets},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), caseTimeout)
			defer cancel()
			s := &suite{Store: open(t), ctx: ctx, bucket: Bucket()}
			made, err := s.EnsureBucket(ctx, s.bucket)
			require.NoError(t, err)
			require.True(t, made)
			tt.run(t, s)
		})
	}
}

// Bucket returns a new name for a bucket.
func Bucket() string { return "t-" + strings.ToLower(rand.Text()[:16]) }

// suite is a store with a bucket for one case.
type suite struct {
	store.Store
	ctx    context.Context
	bucket string
}

func (s *suite) ref(key string) store.Ref { return store.Ref{Bucket: s.bucket, Key: key} }

func (s *suite) object(key, body string) store.Object {
	return store.Object{Ref: s.ref(key), Body: []byte(body)}
}

// one puts one object and returns its error.
func (s *suite) one(ctx context.Context, o store.Object) error { return first(s.Put(ctx, o)) }

func first(errs []error) error {
	if errs == nil {
		return nil
	}
	return errs[0]
}

func (s *suite) keys(t *testing.T, prefix string) []string {
	t.Helper()
	keys := []string{}
	for info, err := range s.List(s.ctx, s.bucket, prefix) {
		require.NoError(t, err)
		require.Equal(t, s.bucket, info.Bucket)
		keys = append(keys, info.Key)
	}
	return keys
}

func roundTrip(t *testing.T, s *suite) {
	began := time.Now().Add(-time.Minute) // the store may have another clock
	require.Nil(t, s.Put(s.ctx, s.object("by_date/2025-01-27/a.json", `{"a":1}`)))
	got, err := s.Get(s.ctx, s.ref("by_date/2025-01-27/a.json"))
	require.NoError(t, err)
	require.Equal(t, `{"a":1}`, string(got.Body))
	require.Equal(t, s.ref("by_date/2025-01-27/a.json"), got.Ref)
	info, err := s.Stat(s.ctx, got.Ref)
	require.NoError(t, err)
	require.Equal(t, int64(7), info.Size)
	require.Equal(t, got.Ref, info.Ref)
	require.WithinRange(t, info.Modified, began, time.Now().Add(time.Minute))
	for listed, err := range s.List(s.ctx, s.bucket, "") {
		require.NoError(t, err)
		require.Equal(t, got.Ref, listed.Ref)
		require.Equal(t, int64(7), listed.Size)
		require.WithinRange(t, listed.Modified, began, time.Now().Add(time.Minute))
	}
	require.NoError(t, s.Delete(s.ctx, got.Ref))
	_, err = s.Get(s.ctx, got.Ref)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, s.Delete(s.ctx, got.Ref), "a missing object is no error")
	require.Empty(t, s.keys(t, ""))
	require.NoError(t, s.Ready(s.ctx))
}

func metadata(t *testing.T, s *suite) {
	o := s.object("m.json", "{}")
	o.Meta = map[string]string{"file-id": "0197-x", "created-at": "2025-01-27T14:30:52Z", "odd": `a=b, "c" ; d/e+f%20~`}
	o.ContentType = "application/x-ndjson"
	require.NoError(t, s.one(s.ctx, o))
	require.NoError(t, s.one(s.ctx, s.object("plain.json", "{}")))
	got, err := s.Get(s.ctx, o.Ref)
	require.NoError(t, err)
	require.Equal(t, o.Meta, got.Meta)
	require.Equal(t, "application/x-ndjson", got.ContentType)
	info, err := s.Stat(s.ctx, o.Ref)
	require.NoError(t, err)
	require.Equal(t, o.Meta, info.Meta)
	got, err = s.Get(s.ctx, s.ref("plain.json"))
	require.NoError(t, err)
	require.Empty(t, got.Meta)
	require.Equal(t, "application/json", got.ContentType)

	for _, meta := range []map[string]string{
		{"Upper": "x"},
		{"": "x"},
		{"a b": "x"},
		{"a": "line\nbreak"},
		{"a": "ümlaut"},
		{"a": " blank"},
		{"a": strings.Repeat("x", store.MaxMeta)},
	} {
		o.Meta = meta
		require.Error(t, s.one(s.ctx, o), "%v", meta)
	}
}

func replace(t *testing.T, s *suite) {
	o := s.object("r.json", "first, and longer")
	o.Meta = map[string]string{"a": "1", "b": "2"}
	require.NoError(t, s.one(s.ctx, o))
	o.Body, o.Meta, o.ContentType = []byte("second"), map[string]string{"c": "3"}, "text/plain"
	require.NoError(t, s.one(s.ctx, o))
	got, err := s.Get(s.ctx, o.Ref)
	require.NoError(t, err)
	require.Equal(t, "second", string(got.Body))
	require.Equal(t, o.Meta, got.Meta)
	require.Equal(t, "text/plain", got.ContentType)
	require.Equal(t, []string{"r.json"}, s.keys(t, ""))
}

func createOnly(t *testing.T, s *suite) {
	o := s.object("c.json", "first")
	o.CreateOnly = true
	o.Meta = map[string]string{"owner": "a"}
	require.NoError(t, s.one(s.ctx, o))
	o.Body, o.Meta = []byte("second"), map[string]string{"owner": "b"}
	err := s.one(s.ctx, o)
	require.ErrorIs(t, err, store.ErrExists)
	require.NotErrorIs(t, err, store.ErrNotFound)
	got, err := s.Get(s.ctx, o.Ref)
	require.NoError(t, err)
	require.Equal(t, "first", string(got.Body))
	require.Equal(t, map[string]string{"owner": "a"}, got.Meta)
	require.NoError(t, s.Delete(s.ctx, o.Ref))
	require.NoError(t, s.one(s.ctx, o), "the key is free again")
}

func oneWinner(t *testing.T, s *suite) {
	errs := make([]error, 32)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			o := s.object("race.json", fmt.Sprint("writer ", i))
			o.CreateOnly = true
			errs[i] = s.one(s.ctx, o)
		})
	}
	all.Wait()
	winner := -1
	for i, err := range errs {
		if err == nil {
			require.Equal(t, -1, winner, "two puts won")
			winner = i
			continue
		}
		require.ErrorIs(t, err, store.ErrExists)
	}
	require.NotEqual(t, -1, winner, "nobody won")
	got, err := s.Get(s.ctx, s.ref("race.json"))
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint("writer ", winner), string(got.Body))
}

func manyObjects(t *testing.T, s *suite) {
	require.NoError(t, s.one(s.ctx, s.object("taken", "old")))
	objects := make([]store.Object, 0, 102)
	for i := range 100 {
		o := s.object(fmt.Sprintf("many/%03d.json", i), fmt.Sprintf("body %d", i))
		o.Meta = map[string]string{"n": fmt.Sprint(i)}
		objects = append(objects, o)
	}
	require.Nil(t, s.Put(s.ctx, objects...))
	taken := s.object("taken", "new")
	taken.CreateOnly = true
	objects = append(objects, taken, store.Object{Ref: s.ref("../out"), Body: []byte("x")})
	errs := s.Put(s.ctx, objects...)
	require.Len(t, errs, 102)
	for i := range 100 {
		require.NoError(t, errs[i])
		got, err := s.Get(s.ctx, objects[i].Ref)
		require.NoError(t, err)
		require.Equal(t, string(objects[i].Body), string(got.Body))
		require.Equal(t, objects[i].Meta, got.Meta)
		require.Equal(t, "application/json", got.ContentType)
	}
	require.ErrorIs(t, errs[100], store.ErrExists)
	require.Error(t, errs[101])
	require.Nil(t, s.Put(s.ctx), "no objects, no errors")
}

func bodies(t *testing.T, s *suite) {
	large := make([]byte, 8<<20)
	_, err := rand.Read(large)
	require.NoError(t, err)
	for name, body := range map[string][]byte{"empty": {}, "nil": nil, "one": {0}, "large": large} {
		require.NoError(t, s.one(s.ctx, store.Object{Ref: s.ref(name), Body: body}))
		got, err := s.Get(s.ctx, s.ref(name))
		require.NoError(t, err)
		require.True(t, bytes.Equal(body, got.Body), name)
		info, err := s.Stat(s.ctx, s.ref(name))
		require.NoError(t, err)
		require.Equal(t, int64(len(body)), info.Size)
	}
}

func equalBodies(t *testing.T, s *suite) {
	body := []byte("the same in all views")
	var objects []store.Object
	for _, view := range []string{"by_date", "by_provider", "by_task_type"} {
		objects = append(objects, store.Object{Ref: s.ref(view + "/x/d.json"), Body: body, Meta: map[string]string{"v": "1"}})
	}
	require.Nil(t, s.Put(s.ctx, objects...))
	changed := objects[1]
	changed.Body, changed.Meta = []byte("changed"), map[string]string{"v": "2"}
	require.NoError(t, s.one(s.ctx, changed))
	require.NoError(t, s.Delete(s.ctx, objects[0].Ref))
	_, err := s.Get(s.ctx, objects[0].Ref)
	require.ErrorIs(t, err, store.ErrNotFound)
	got, err := s.Get(s.ctx, changed.Ref)
	require.NoError(t, err)
	require.Equal(t, "changed", string(got.Body))
	got, err = s.Get(s.ctx, objects[2].Ref)
	require.NoError(t, err)
	require.Equal(t, string(body), string(got.Body))
	require.Equal(t, map[string]string{"v": "1"}, got.Meta)
}

func writers(t *testing.T, s *suite) {
	const n, each = 16, 20
	var all sync.WaitGroup
	failed := make([]error, n)
	for i := range n {
		all.Go(func() {
			for j := range each {
				body := []byte(fmt.Sprintf("%d of %d", j, i))
				failed[i] = errors.Join(failed[i], errors.Join(s.Put(s.ctx,
					store.Object{Ref: s.ref(fmt.Sprintf("own/%d/%d", i, j)), Body: body},
					store.Object{Ref: s.ref("shared/last"), Body: body},
				)...))
			}
		})
	}
	all.Wait()
	require.NoError(t, errors.Join(failed...))
	require.Len(t, s.keys(t, "own/"), n*each)
	for i := range n {
		got, err := s.Get(s.ctx, s.ref(fmt.Sprintf("own/%d/%d", i, each-1)))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("%d of %d", each-1, i), string(got.Body))
	}
	got, err := s.Get(s.ctx, s.ref("shared/last"))
	require.NoError(t, err)
	require.Regexp(t, `^\d+ of \d+$`, string(got.Body))
}

func cancelled(t *testing.T, s *suite) {
	require.NoError(t, s.one(s.ctx, s.object("there", "x")))
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	check := func(err error) {
		t.Helper()
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
	}
	errs := s.Put(ctx, s.object("a", "x"), s.object("b", "x"))
	require.Len(t, errs, 2)
	check(errs[0])
	check(errs[1])
	_, err := s.Get(ctx, s.ref("there"))
	check(err)
	_, err = s.Stat(ctx, s.ref("there"))
	check(err)
	check(s.Delete(ctx, s.ref("there")))
	gone := s.Remove(ctx, s.ref("there"), s.ref("not there"))
	require.Len(t, gone, 2)
	check(gone[0])
	check(listError(s.List(ctx, s.bucket, "")))
	_, err = s.EnsureBucket(ctx, Bucket())
	check(err)
	_, err = s.Get(s.ctx, s.ref("there"))
	require.NoError(t, err, "nothing was deleted")
}

func buckets(t *testing.T, s *suite) {
	name := Bucket()
	results := make([]bool, 8)
	errs := make([]error, 8)
	var all sync.WaitGroup
	for i := range results {
		all.Go(func() { results[i], errs[i] = s.EnsureBucket(s.ctx, name) })
	}
	all.Wait()
	require.NoError(t, errors.Join(errs...))
	made, err := s.EnsureBucket(s.ctx, name)
	require.NoError(t, err)
	require.False(t, made)
	require.NoError(t, s.one(s.ctx, store.Object{Ref: store.Ref{Bucket: name, Key: "k"}, Body: []byte("x")}))
}
