package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/store"
)

func TestBucketsHaveOtherNamesInTheStore(t *testing.T) {
	t.Parallel()
	names := store.Names{"llm-raw": "acme-raw", "job-data": "acme-jobs"}
	below := store.NewMemory(nil)
	s := store.Rename(below, names)
	for _, bucket := range []string{"llm-raw", "llm-dlq"} {
		made, err := s.EnsureBucket(t.Context(), bucket)
		require.NoError(t, err)
		require.True(t, made)
	}
	ours, theirs := store.Ref{Bucket: "llm-raw", Key: "k"}, store.Ref{Bucket: "acme-raw", Key: "k"}
	require.Equal(t, theirs, names.Ref(ours))
	require.Equal(t, theirs, names.Ref(theirs), "a name of the store means itself")
	require.Equal(t, "llm-raw", names.Logical("acme-raw"))
	require.Equal(t, "llm-dlq", names.Logical("llm-dlq"))

	objects := []store.Object{{Ref: ours, Body: []byte("x")}, {Ref: store.Ref{Bucket: "llm-dlq", Key: "k"}, Body: []byte("y")}}
	require.Nil(t, s.Put(t.Context(), objects...))
	require.Equal(t, ours, objects[0].Ref, "what was handed over stays as it was")
	_, err := below.Stat(t.Context(), theirs)
	require.NoError(t, err)
	_, err = below.Stat(t.Context(), ours)
	require.ErrorIs(t, err, store.ErrNotFound)
	for _, ref := range []store.Ref{ours, theirs} {
		o, err := s.Get(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, ref, o.Ref, "it is called as it was asked for")
		info, err := s.Stat(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, ref, info.Ref)
		for listed, err := range s.List(t.Context(), ref.Bucket, "") {
			require.NoError(t, err)
			require.Equal(t, ref, listed.Ref)
		}
	}
	require.NoError(t, s.Delete(t.Context(), theirs))
	_, err = s.Get(t.Context(), ours)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.Same(t, below, store.Rename(below, nil), "without other names nothing is in between")
}
