package embedded

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/tags"
	"github.com/stretchr/testify/require"
)

// TestViewsStayWholeWhileOneIsReplaced stores documents again and again while a client
// replaces and deletes one of their views: what is read is always one write, body and
// metadata alike, and never in a place where it was not written.
func TestViewsStayWholeWhileOneIsReplaced(t *testing.T) {
	t.Parallel()
	const rounds = 150
	s, c := shared.Store(), raw(t)
	b := bucket(t, s)
	first := views(b, "d.json", "")[0]
	var all sync.WaitGroup
	for writer := range 2 {
		all.Go(func() {
			for i := range rounds {
				text := fmt.Sprintf("in process %d %d", writer, i)
				objects := views(b, "d.json", text)
				for j := range objects {
					objects[j].Meta = map[string]string{"text": text}
				}
				if errs := s.Put(t.Context(), objects...); errs != nil {
					t.Error(errs)
					return
				}
			}
		})
	}
	all.Go(func() {
		for i := range rounds {
			text := []byte(fmt.Sprintf("over http %d", i))
			_, err := c.PutObject(t.Context(), b, first.Key, bytes.NewReader(text), int64(len(text)),
				minio.PutObjectOptions{UserMetadata: map[string]string{"text": string(text)}})
			if err == nil && i%3 == 0 {
				err = c.RemoveObject(t.Context(), b, first.Key, minio.RemoveObjectOptions{})
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	all.Wait()
	for i, o := range views(b, "d.json", "") {
		got, err := s.Get(t.Context(), o.Ref)
		if i == 0 && err != nil {
			continue // deleted last
		}
		require.NoError(t, err)
		require.Equal(t, got.Meta["text"], string(got.Body))
		if i > 0 {
			require.Contains(t, string(got.Body), "in process")
		}
	}
}

// TestTagsStayOnTheirView tags one view while the document is written.
func TestTagsStayOnTheirView(t *testing.T) {
	t.Parallel()
	const rounds = 100
	s, c := shared.Store(), raw(t)
	b := bucket(t, s)
	set, err := tags.NewTags(map[string]string{"color": "red"}, true)
	require.NoError(t, err)
	for i := range rounds {
		objects := views(b, fmt.Sprint(i), "body")
		stop := make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() {
			for {
				// It is there from some moment on.
				_ = c.PutObjectTagging(t.Context(), b, objects[0].Key, set, minio.PutObjectTaggingOptions{})
				select {
				case <-stop:
					return
				default:
				}
			}
		})
		require.Nil(t, s.Put(t.Context(), objects...))
		close(stop)
		all.Wait()
		for _, o := range objects[1:] {
			got, err := c.GetObjectTagging(t.Context(), b, o.Key, minio.GetObjectTaggingOptions{})
			require.NoError(t, err)
			require.Empty(t, got.ToMap(), "the tag of another view")
		}
	}
}
