package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/topology"
)

func TestBackupAndRestoreSayWhatTheyDid(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	bustest.Provision(t, bustest.Connect(t, s), topology.Options{})
	environ := []string{"NATS_URL=" + s.ClientURL()}
	dir := filepath.Join(t.TempDir(), "backup")

	code, stdout, stderr := call(t.Context(), environ, "", "backup", "--out", dir)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "LLM_RAW          0         3")
	require.Contains(t, stdout, dir+" has 20 streams, made in ")
	code, _, stderr = call(t.Context(), environ, "", "backup", "--out", dir)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "is not empty")

	code, stdout, stderr = call(t.Context(), environ, "", "restore", dir)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "20 streams are as they were on ")
	code, _, stderr = call(t.Context(), environ, "", "restore", t.TempDir())
	require.Equal(t, exitNotFound, code)
	require.Contains(t, stderr, "holds no finished backup")
	require.NoError(t, os.Truncate(filepath.Join(dir, "LLM_RAW.snapshot"), 1))
	code, _, stderr = call(t.Context(), environ, "", "restore", dir)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "the backup is damaged: LLM_RAW.snapshot has 1 bytes")
}
