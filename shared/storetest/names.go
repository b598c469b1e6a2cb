package storetest

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/store"
)

func notFound(t *testing.T, s *suite) {
	for _, r := range []store.Ref{s.ref("none"), s.ref("a/b/none"), s.ref("../x"), {Bucket: Bucket(), Key: "x"}} {
		_, err := s.Get(s.ctx, r)
		require.ErrorIs(t, err, store.ErrNotFound, "%v", r)
		_, err = s.Stat(s.ctx, r)
		require.ErrorIs(t, err, store.ErrNotFound, "%v", r)
		require.NotEqual(t, fault.Permanent, fault.Of(err).Kind)
	}
	require.NoError(t, s.one(s.ctx, s.object("folder/file", "x")))
	for _, key := range []string{"folder", "folder/file/below", "fold"} {
		_, err := s.Get(s.ctx, s.ref(key))
		require.ErrorIs(t, err, store.ErrNotFound, key)
		require.NoError(t, s.Delete(s.ctx, s.ref(key)))
	}
	require.Equal(t, []string{"folder/file"}, s.keys(t, ""))
	err := listError(s.List(s.ctx, Bucket(), ""))
	require.ErrorIs(t, err, store.ErrNotFound)
}

func listError(list iter.Seq2[store.Info, error]) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

func missingBucket(t *testing.T, s *suite) {
	err := s.one(s.ctx, store.Object{Ref: store.Ref{Bucket: Bucket(), Key: "k"}, Body: []byte("x")})
	require.ErrorIs(t, err, store.ErrNotFound)
	require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
}

func listing(t *testing.T, s *suite) {
	var objects []store.Object
	var want []string
	for i := range 1100 {
		key := fmt.Sprintf("list/%d/%04d.json", i%3, i)
		objects = append(objects, s.object(key, "x"))
		want = append(want, key)
	}
	for _, key := range []string{"list.json", "list-b", "lisa", "list/0", "listz"} {
		if key == "list/0" {
			key = "list/0.json" // "list/0" is a folder where a store is one
		}
		objects = append(objects, s.object(key, "x"))
		want = append(want, key)
	}
	require.Nil(t, s.Put(s.ctx, objects...))
	slices.Sort(want)
	require.Equal(t, want, s.keys(t, ""))
	under := func(prefix string) []string {
		return slices.DeleteFunc(slices.Clone(want), func(k string) bool { return !strings.HasPrefix(k, prefix) })
	}
	for _, prefix := range []string{"list/", "list", "list/1/", "list/1/00", "list/0", "list/0.json", "lis", "none"} {
		require.Equal(t, under(prefix), s.keys(t, prefix), prefix)
	}
}

func listingLeft(t *testing.T, s *suite) {
	require.Nil(t, s.Put(s.ctx, s.object("a", "x"), s.object("b", "x"), s.object("c", "x")))
	n := 0
	for _, err := range s.List(s.ctx, s.bucket, "") {
		require.NoError(t, err)
		if n++; n == 2 {
			break
		}
	}
	require.Equal(t, 2, n)
}

func oddKeys(t *testing.T, s *suite) {
	keys := []string{
		"with space.json", "plus+sign.json", "per%20cent.json", "amp&eq=q?.json", "ümlaut/日本語/😀.json",
		"quote'\"back`tick.json", "hash#tag.json", "semi;colon:comma,.json", "tilde~star*.json", ".hidden/.json",
		"a..b/...json", "dash-_under.json", strings.Repeat("x", 250) + ".json", "<xml>&amp;.json", "back\\slash.json",
	}
	var objects []store.Object
	for _, key := range keys {
		objects = append(objects, s.object(key, key))
	}
	require.Nil(t, s.Put(s.ctx, objects...))
	for _, key := range keys {
		got, err := s.Get(s.ctx, s.ref(key))
		require.NoError(t, err, key)
		require.Equal(t, key, string(got.Body))
		_, err = s.Stat(s.ctx, s.ref(key))
		require.NoError(t, err, key)
	}
	slices.Sort(keys)
	require.Equal(t, keys, s.keys(t, ""))
	for _, key := range keys {
		require.NoError(t, s.Delete(s.ctx, s.ref(key)), key)
	}
	require.Empty(t, s.keys(t, ""))
}

func badKeys(t *testing.T, s *suite) {
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\x00b", "a\nb", "\xff",
		strings.Repeat("x", store.MaxSegment+1), strings.Repeat("ab/", store.MaxKey/2) + "x",
	} {
		require.Error(t, s.one(s.ctx, s.object(key, "x")), "%q", key)
		_, err := s.Get(s.ctx, s.ref(key))
		require.ErrorIs(t, err, store.ErrNotFound, "%q", key)
		require.NoError(t, s.Delete(s.ctx, s.ref(key)), "%q", key)
	}
	require.Error(t, s.one(s.ctx, store.Object{Ref: store.Ref{Bucket: "../" + s.bucket, Key: "x"}}))
	require.Empty(t, s.keys(t, ""))
}
