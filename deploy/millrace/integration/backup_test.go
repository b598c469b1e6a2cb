//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/deploy/millrace/up"
	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

// TestABackupUnderLoadEndsEveryDocumentOnce makes a backup while documents are at every stage,
// lets the line go on, loses all that the broker has, and puts the backup back. What came after
// it comes from the buckets.
func TestABackupUnderLoadEndsEveryDocumentOnce(t *testing.T) { //nolint:paralleltest // each has the whole machine under load
	const documents = 800
	dir, saved := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "backup")
	nats, s3, http := freeAddr(t), freeAddr(t), freeAddr(t)
	millrace := filepath.Join(binaries(t), "millrace")
	line := run(t, []string{unreachable, "SCRAPE_TIMEOUT=2s"}, millrace, "up", "--data", dir, "--nats", nats, "--s3", s3, "--http", http)
	ready(t, http)
	command := func(args ...string) {
		t.Helper()
		p := run(t, nil, millrace, append(args, "--data", dir)...)
		<-p.done
		out, err := os.ReadFile(p.log)
		require.NoError(t, err)
		t.Logf("%v\n%s", args, tail(out))
		require.True(t, p.cmd.ProcessState.Success())
	}
	b := connect(t, nats)
	all := make(chan []sent, 1)
	go func() {
		published, err := publish(t.Context(), b, 0, documents)
		if err != nil {
			t.Error(err)
		}
		all <- published
	}()
	reach(t, b, documents/8)
	command("backup", "--out", saved)
	accepted := <-all
	taken(t, b)
	line.kill()
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "nats")))
	line.start()
	ready(t, http)
	command("restore", saved)
	command("replay", "--from", "raw", "--yes")
	reach(t, b, documents)
	emptied(t, b)

	keys, err := up.ReadCredentials(dir)
	require.NoError(t, err)
	s, err := store.OpenS3(t.Context(), store.S3Settings{Endpoint: s3, AccessKey: keys["S3_ACCESS_KEY"], SecretKey: keys["S3_SECRET_KEY"]})
	require.NoError(t, err)
	defer s.Close()
	check(t, b, s, accepted)
}

// taken waits until ingest has taken in all that was published.
func taken(t *testing.T, b *bus.JetStream) {
	t.Helper()
	require.Eventually(t, func() bool {
		info, err := b.Info(t.Context(), contract.StreamRaw)
		return err == nil && info.Messages == 0
	}, endWait, poll, "ingest has taken all")
}
