package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/store"
)

func ranges(t *testing.T, s *suite) {
	t.Helper()
	require.Nil(t, s.Put(s.ctx, s.object("a", "0123456789"), s.object("empty", "")))
	for _, tt := range []struct {
		key       string
		offset, n int64
		want      string
	}{
		{"a", 0, 10, "0123456789"},
		{"a", 3, 4, "3456"},
		{"a", 8, 10, "89"},
		{"a", 9, 1, "9"},
		{"a", 10, 1, ""},
		{"a", 100, 5, ""},
		{"a", 2, 0, ""},
		{"empty", 0, 5, ""},
	} {
		got, err := store.GetRange(s.ctx, s.Store, s.ref(tt.key), tt.offset, tt.n)
		require.NoError(t, err, "%d bytes of %s from %d", tt.n, tt.key, tt.offset)
		require.Equal(t, tt.want, string(got), "%d bytes of %s from %d", tt.n, tt.key, tt.offset)
	}
	_, err := store.GetRange(s.ctx, s.Store, s.ref("nowhere"), 0, 1)
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = store.GetRange(s.ctx, s.Store, s.ref("a"), -1, 1)
	require.Error(t, err)
}
