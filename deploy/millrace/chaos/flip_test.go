//go:build integration

package chaos

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/deploy/millrace/chaos/audit"
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

func TestAFlippedBitIsFound(t *testing.T) {
	t.Parallel()
	c := config(t)
	r := newRun(Settings{Config: c, Rate: 10, Plan: Plan{For: 3 * time.Second, Topology: Stages, Disks: fillable(t, time.Minute, 10)}}, "flip")
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

	// A broker that lost what it had: of a document that has not ended only the raw object is left.
	r.rig.stages["validate"].hold()
	r.load = &audit.Load{JS: r.rig.js, Ledger: audit.NewLedger(), Run: "flop", Rate: 10}
	r.hurt(t.Context(), nil)
	require.NoError(t, await(t.Context(), startWait, "ingest to be done", func(ctx context.Context) error {
		depths, err := audit.Depths(ctx, r.rig.js)
		if err == nil && depths["LLM_RAW"] > 0 {
			err = errors.New("it is not")
		}
		return err
	}))
	for _, name := range []string{"LLM_VALIDATE", "KV_LLM_LEDGER"} {
		lost, err := r.rig.js.Stream(t.Context(), name)
		require.NoError(t, err)
		require.NoError(t, lost.Purge(t.Context()))
	}
	key = flip(t, r.rig.s3, "llm-raw", "by_date/2025-01-27/", "flop-000002.json")
	out, err = r.rig.command(t.Context(), "replay", "--from", "raw", "--dry-run", "--yes")
	require.Equal(t, 1, exitCode(err), "%s: %s", key, out)
	require.Regexp(t, "damaged.*flop-000002", out)
}
