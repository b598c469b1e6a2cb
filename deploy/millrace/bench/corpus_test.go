package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/doc"
)

func TestTheSameCorpusMakesTheSameDocuments(t *testing.T) {
	t.Parallel()
	at := time.Date(2025, 1, 27, 14, 30, 52, 0, time.UTC)
	open := func(run string, seed uint64) *corpus {
		c, err := newCorpus(run, seed, 2048, at)
		require.NoError(t, err)
		return c
	}
	a, b, other, later := open("run1", 1), open("run1", 1), open("run1", 2), open("run2", 1)
	ids, sessions := map[string]bool{}, map[string]bool{}
	for i := range 200 {
		d, err := a.document(i)
		require.NoError(t, err)
		again, err := b.document(i)
		require.NoError(t, err)
		require.Equal(t, d, again)
		unlike, err := other.document(i)
		require.NoError(t, err)
		require.NotEqual(t, d.body, unlike.body)
		next, err := later.document(i)
		require.NoError(t, err)
		require.NotEqual(t, d.id, next.id)

		require.True(t, doc.ValidID(d.id), d.id)
		var e struct {
			Metadata struct {
				FileID    string `json:"file_id"`
				SessionID string `json:"session_id"`
			} `json:"metadata"`
		}
		require.NoError(t, codec.Unmarshal(d.body, &e))
		require.Equal(t, d.id, e.Metadata.FileID)
		require.False(t, ids[d.id] || sessions[e.Metadata.SessionID])
		ids[d.id], sessions[e.Metadata.SessionID] = true, true
	}
}

func TestADocumentHasTheSizeThatWasAskedFor(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1500, 2048, 4096, 64 << 10} {
		c, err := newCorpus("run", 7, size, time.Unix(0, 0))
		require.NoError(t, err)
		for i := range 50 {
			d, err := c.document(i)
			require.NoError(t, err)
			require.Len(t, d.body, size)
		}
	}
	c, err := newCorpus("run", 7, 1, time.Unix(0, 0))
	require.NoError(t, err)
	d, err := c.document(0)
	require.NoError(t, err)
	require.Greater(t, len(d.body), 1, "a document without any text is as small as it gets")
}
