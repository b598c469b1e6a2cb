//go:build integration

package integration

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/deploy/millrace/up"
	"github.com/jobspy/millrace/shared/store"
)

// unreachable is a source that answers nothing, so that no test leaves the machine.
const unreachable = "SOURCE_GREENHOUSE_URL=https://unreachable.invalid"

func TestUpKilledThreeTimesLosesNothing(t *testing.T) { //nolint:paralleltest // each has the whole machine under load
	const documents = 2000
	dir := filepath.Join(t.TempDir(), "data")
	nats, s3, http := freeAddr(t), freeAddr(t), freeAddr(t)
	line := run(t, []string{unreachable}, filepath.Join(binaries(t), "millrace"),
		"up", "--data", dir, "--nats", nats, "--s3", s3, "--http", http)
	ready(t, http)
	b := connect(t, nats)

	all := make(chan []sent, 1)
	go func() {
		published, err := publish(t.Context(), b, 0, documents)
		if err != nil {
			t.Error(err)
		}
		all <- published
	}()
	for kill := 1; kill <= 3; kill++ {
		reach(t, b, kill*documents/5)
		line.kill()
		line.start()
		ready(t, http)
	}
	accepted := <-all
	require.Len(t, accepted, documents)
	reach(t, b, documents)
	emptied(t, b)

	keys, err := up.ReadCredentials(dir)
	require.NoError(t, err)
	s, err := store.OpenS3(t.Context(), store.S3Settings{
		Endpoint: s3, AccessKey: keys["S3_ACCESS_KEY"], SecretKey: keys["S3_SECRET_KEY"],
	})
	require.NoError(t, err)
	defer s.Close()
	check(t, b, s, accepted)
}
