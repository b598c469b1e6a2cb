//go:build integration

package chaos

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/require"
)

// flip changes one bit in the middle of the first object whose key begins and ends so. What
// was stored beside the bytes stays.
func flip(t *testing.T, s *minio.Client, bucket, prefix, suffix string) (key string) {
	t.Helper()
	for o := range s.ListObjects(t.Context(), bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		require.NoError(t, o.Err)
		if key == "" && strings.HasSuffix(o.Key, suffix) {
			key = o.Key
		}
	}
	require.NotEmpty(t, key, "an object of %s/%s", bucket, prefix)
	o, err := s.GetObject(t.Context(), bucket, key, minio.GetObjectOptions{})
	require.NoError(t, err)
	info, err := o.Stat()
	require.NoError(t, err)
	body, err := io.ReadAll(o)
	require.NoError(t, err)
	require.NoError(t, o.Close())
	body[len(body)/2] ^= 1
	_, err = s.PutObject(t.Context(), bucket, key, bytes.NewReader(body), int64(len(body)),
		minio.PutObjectOptions{UserMetadata: info.UserMetadata, ContentType: info.ContentType})
	require.NoError(t, err)
	return key
}

func TestAFlippedBitIsFound(t *testing.T) { //nolint:paralleltest // it has the whole machine
	c := config(t)
	r := &run{Settings: Settings{Config: c, Rate: 10, Plan: Plan{For: 3 * time.Second, Topology: Stages}}}
	r.name = "flip"
	require.NoError(t, r.begin(t.Context()))
	defer r.rig.close()
	r.hurt(t.Context(), nil)
	require.NoError(t, r.settle(t.Context()))
	_, err := r.rig.command(t.Context(), "archive", "run", "--now")
	require.NoError(t, err)
	out, err := r.rig.command(t.Context(), "archive", "verify")
	require.NoError(t, err, "%s", out)

	key := flip(t, r.rig.s3, "llm-archive", "daily/", ".jsonl.zst")
	out, err = r.rig.command(t.Context(), "archive", "verify")
	require.Equal(t, 1, exitCode(err), "%s: %s", key, out)

	key = flip(t, r.rig.s3, "llm-raw", "by_date/2025-01-27/", ".json")
	out, err = r.rig.command(t.Context(), "replay", "--from", "raw", "--dry-run", "--yes")
	require.Equal(t, 1, exitCode(err), "%s: %s", key, out)
	require.Contains(t, out, "damaged", "%s", key)
}
