package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/tags"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/store"
)

// raw returns a client that shows more than package store does.
func raw(t testing.TB) *minio.Client {
	t.Helper()
	c, err := minio.New(shared.Addr(), &minio.Options{Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: s3Region})
	require.NoError(t, err)
	return c
}

// views returns the three views of one document, which share their body.
func views(bucket, name, body string) []store.Object {
	b := []byte(body)
	var all []store.Object
	for _, view := range []string{"by_date/2025-01-27", "by_provider/openai", "by_task_type/intent_analysis"} {
		all = append(all, store.Object{
			Ref: store.Ref{Bucket: bucket, Key: view + "/" + name}, Body: b,
			Meta: map[string]string{"file-id": "0197", "sha256": "abc"},
		})
	}
	return all
}

func names(t testing.TB, o store.Object) uint64 {
	t.Helper()
	fi, err := os.Stat(shared.path(o.Bucket, o.Key))
	require.NoError(t, err)
	return uint64(fi.Sys().(*syscall.Stat_t).Nlink) //nolint:unconvert // another type on other machines
}

func TestViewsShareOneFile(t *testing.T) {
	t.Parallel()
	s, web := shared.Store(), client(t)
	b := bucket(t, s)
	objects := views(b, "d.json", `{"a":1}`)
	require.Nil(t, s.Put(t.Context(), objects...))
	etags := map[string]bool{}
	for _, o := range objects {
		require.Equal(t, uint64(3), names(t, o))
		text, err := os.ReadFile(shared.path(o.Bucket, o.Key))
		require.NoError(t, err)
		require.Equal(t, string(o.Body), string(text), "the file is where the key says")
		fi, err := os.Stat(shared.path(o.Bucket, o.Key))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(filePerm), fi.Mode())

		got, err := web.Get(t.Context(), o.Ref)
		require.NoError(t, err)
		require.Equal(t, string(o.Body), string(got.Body))
		require.Equal(t, o.Meta, got.Meta)
		require.Equal(t, "application/json", got.ContentType)
		info, err := raw(t).StatObject(t.Context(), o.Bucket, o.Key, minio.StatObjectOptions{})
		require.NoError(t, err)
		etags[info.ETag] = true
	}
	alone := store.Object{Ref: store.Ref{Bucket: b, Key: "alone"}, Body: objects[0].Body, Meta: objects[0].Meta}
	require.Nil(t, web.Put(t.Context(), alone))
	info, err := raw(t).StatObject(t.Context(), b, "alone", minio.StatObjectOptions{})
	require.NoError(t, err)
	require.Equal(t, map[string]bool{info.ETag: true}, etags, "written in process and over http it is the same object")

	require.Nil(t, s.Put(t.Context(), objects...), "a second time, over the first")
	require.Equal(t, uint64(3), names(t, objects[0]))
	left, err := os.ReadDir(shared.path(b, ".sgwtmp"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestWhatDiffersSharesNoFile(t *testing.T) {
	t.Parallel()
	s := shared.Store()
	b := bucket(t, s)
	objects := views(b, "d.json", "same")
	objects[1].Meta = map[string]string{"file-id": "other"}
	objects[2].ContentType = "text/plain"
	require.Nil(t, s.Put(t.Context(), objects...))
	for _, o := range objects {
		require.Equal(t, uint64(1), names(t, o))
		got, err := s.Get(t.Context(), o.Ref)
		require.NoError(t, err)
		require.Equal(t, o.Meta, got.Meta)
	}
}

// TestChangingOneViewLeavesTheOthers does over http to one of three views what a client may
// do, and looks at the other two.
func TestChangingOneViewLeavesTheOthers(t *testing.T) {
	t.Parallel()
	c := raw(t)
	for name, do := range changes(c) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for victim := range 3 {
				b := bucket(t, shared.Store())
				objects := views(b, "d.json", "body of all")
				require.Nil(t, shared.Store().Put(t.Context(), objects...))
				require.NoError(t, do(t.Context(), objects[victim].Ref))
				for i, o := range objects {
					if i == victim {
						continue
					}
					require.Equal(t, uint64(2), names(t, o), "the other two still share")
					got, err := client(t).Get(t.Context(), o.Ref)
					require.NoError(t, err)
					require.Equal(t, string(o.Body), string(got.Body))
					require.Equal(t, o.Meta, got.Meta)
					set, err := c.GetObjectTagging(t.Context(), o.Bucket, o.Key, minio.GetObjectTaggingOptions{})
					require.NoError(t, err)
					require.Empty(t, set.ToMap())
				}
			}
		})
	}
}

// changes returns what a client may do to an object.
func changes(c *minio.Client) map[string]func(ctx context.Context, r store.Ref) error {
	return map[string]func(ctx context.Context, r store.Ref) error{
		"overwriting": func(ctx context.Context, r store.Ref) error {
			_, err := c.PutObject(ctx, r.Bucket, r.Key, bytes.NewReader([]byte("new")), 3, minio.PutObjectOptions{})
			return err
		},
		"deleting": func(ctx context.Context, r store.Ref) error {
			return c.RemoveObject(ctx, r.Bucket, r.Key, minio.RemoveObjectOptions{})
		},
		"deleting several": func(ctx context.Context, r store.Ref) error {
			names := make(chan minio.ObjectInfo, 1)
			names <- minio.ObjectInfo{Key: r.Key}
			close(names)
			for e := range c.RemoveObjects(ctx, r.Bucket, names, minio.RemoveObjectsOptions{}) {
				return e.Err
			}
			return nil
		},
		"tagging": func(ctx context.Context, r store.Ref) error {
			set, err := tags.NewTags(map[string]string{"color": "red"}, true)
			if err != nil {
				return err
			}
			return c.PutObjectTagging(ctx, r.Bucket, r.Key, set, minio.PutObjectTaggingOptions{})
		},
		"copying onto itself with other metadata": func(ctx context.Context, r store.Ref) error {
			_, err := c.CopyObject(ctx, minio.CopyDestOptions{
				Bucket: r.Bucket, Object: r.Key, ReplaceMetadata: true, UserMetadata: map[string]string{"changed": "yes"},
			}, minio.CopySrcOptions{Bucket: r.Bucket, Object: r.Key})
			return err
		},
		"copying something else over it": func(ctx context.Context, r store.Ref) error {
			_, err := c.PutObject(ctx, r.Bucket, "src", bytes.NewReader([]byte("new")), 3, minio.PutObjectOptions{})
			if err == nil {
				_, err = c.CopyObject(ctx, minio.CopyDestOptions{Bucket: r.Bucket, Object: r.Key},
					minio.CopySrcOptions{Bucket: r.Bucket, Object: "src"})
			}
			return err
		},
		"uploading in parts over it": func(ctx context.Context, r store.Ref) error {
			large := bytes.Repeat([]byte("x"), 6<<20)
			_, err := c.PutObject(ctx, r.Bucket, r.Key, bytes.NewReader(large), int64(len(large)),
				minio.PutObjectOptions{PartSize: 5 << 20})
			return err
		},
	}
}

func TestTaggedViewKeepsWhatItHad(t *testing.T) {
	t.Parallel()
	b := bucket(t, shared.Store())
	objects := views(b, "d.json", "body of all")
	require.Nil(t, shared.Store().Put(t.Context(), objects...))
	before, err := raw(t).StatObject(t.Context(), b, objects[0].Key, minio.StatObjectOptions{})
	require.NoError(t, err)
	set, err := tags.NewTags(map[string]string{"color": "red"}, true)
	require.NoError(t, err)
	require.NoError(t, raw(t).PutObjectTagging(t.Context(), b, objects[0].Key, set, minio.PutObjectTaggingOptions{}))
	require.Equal(t, uint64(1), names(t, objects[0]))
	after, err := raw(t).StatObject(t.Context(), b, objects[0].Key, minio.StatObjectOptions{})
	require.NoError(t, err)
	require.Equal(t, before.ETag, after.ETag)
	require.Equal(t, before.LastModified, after.LastModified)
	got, err := client(t).Get(t.Context(), objects[0].Ref)
	require.NoError(t, err)
	require.Equal(t, objects[0].Meta, got.Meta)
	require.Equal(t, "body of all", string(got.Body))
}

// TestCreateOnlyAmongViews races whole documents, one view of which must be free, against
// create-only puts over http.
func TestCreateOnlyAmongViews(t *testing.T) {
	t.Parallel()
	s, web := shared.Store(), client(t)
	b := bucket(t, s)
	const rounds, rivals = 20, 8
	for round := range rounds {
		won := make([]bool, 2*rivals)
		var all sync.WaitGroup
		for i := range rivals {
			all.Go(func() {
				objects := views(b, fmt.Sprint(round), fmt.Sprint("in process ", i))
				objects[0].CreateOnly = true
				for _, err := range s.Put(t.Context(), objects[1], objects[0], objects[2]) {
					if err != nil && !errors.Is(err, store.ErrExists) {
						t.Error(err)
					}
				}
				got, err := s.Get(t.Context(), objects[0].Ref)
				won[i] = err == nil && string(got.Body) == string(objects[0].Body)
			})
			all.Go(func() {
				o := views(b, fmt.Sprint(round), fmt.Sprint("over http ", i))[0]
				o.CreateOnly = true
				errs := web.Put(t.Context(), o)
				won[rivals+i] = errs == nil
				if errs != nil && !errors.Is(errs[0], store.ErrExists) {
					t.Error(errs[0])
				}
			})
		}
		all.Wait()
		winners := 0
		for _, w := range won {
			if w {
				winners++
			}
		}
		require.Equal(t, 1, winners)
	}
}

func TestLoserOfCreateOnlyStillStoresItsOtherViews(t *testing.T) {
	t.Parallel()
	s := shared.Store()
	b := bucket(t, s)
	first, second := views(b, "d.json", "first"), views(b, "d.json", "second")
	first[0].CreateOnly, second[0].CreateOnly = true, true
	require.Nil(t, s.Put(t.Context(), first...))
	require.Equal(t, uint64(3), names(t, first[0]), "the view that must be free shares its file too")
	errs := s.Put(t.Context(), second...)
	require.ErrorIs(t, errs[0], store.ErrExists)
	require.NoError(t, errs[1])
	require.NoError(t, errs[2])
	for i, want := range []string{"first", "second", "second"} {
		got, err := s.Get(t.Context(), first[i].Ref)
		require.NoError(t, err)
		require.Equal(t, want, string(got.Body))
	}
}

func TestStoreSaysDownWhenTheSyncFails(t *testing.T) {
	t.Parallel()
	g := newGroupSync(0, func() error { return errors.New("disk is gone") })
	disk := newDurable(shared.disk.Posix, shared.root, g)
	s := &local{disk: disk, owner: accessKey}
	b := bucket(t, shared.Store())
	for _, err := range s.Put(t.Context(), views(b, "d.json", "x")...) {
		require.ErrorContains(t, err, "disk is gone")
		require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
	}
	require.Error(t, s.Ready(t.Context()))
	disk.close()
	for _, err := range s.Put(t.Context(), views(b, "e.json", "x")...) {
		require.ErrorIs(t, err, errStopped)
		require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
	}
	_, err := s.Stat(t.Context(), store.Ref{Bucket: b, Key: "by_provider/openai/e.json"})
	require.ErrorIs(t, err, store.ErrNotFound, "nothing is written after the stop")
}

func TestProbeOfTheEmbeddedServer(t *testing.T) {
	t.Parallel()
	b := bucket(t, shared.Store())
	s, err := store.OpenS3(t.Context(), store.S3Settings{Endpoint: shared.Addr(), AccessKey: accessKey, SecretKey: secretKey, Bucket: b})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	caps, err := s.Probe(t.Context())
	require.NoError(t, err)
	require.True(t, caps.ConditionalPut)
	require.False(t, caps.BatchedPut, "it takes batches and does not unpack them")
	require.False(t, caps.Encryption, "it takes the wish and ignores it")
	for info, err := range s.List(t.Context(), b, "") {
		require.NoError(t, err)
		t.Errorf("the probe left %q", info.Key)
	}
}
