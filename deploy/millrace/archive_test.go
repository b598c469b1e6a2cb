package main

import (
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/deploy/millrace/operate"
)

func TestTheArchiveOutlivesItsBroker(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := startUp(t, dir)
	l.do(exitOK, strings.Repeat(`{"jobs":[{"title":"Baker"}]}`+"\n", 5), "publish", "--task", "job_extraction", "--provider", "openai", "-")
	before, _, dead := l.awaitEnds(5)
	require.Empty(t, dead)
	l.do(exitOK, "", "archive", "run", "--now")
	stdout, stderr := l.do(exitOK, "", "archive", "expire", "--dry-run", "--json")
	require.JSONEq(t, "[]", stdout)
	require.Contains(t, stderr, "dry run")
	_, stderr = l.do(exitOK, "", "archive", "expire")
	require.Contains(t, stderr, "nothing is over its time")
	l.end(syscall.SIGKILL)

	l = startUp(t, dir)
	_, stderr = l.do(exitUsage, "", "replay", "--from", "archive")
	require.Contains(t, stderr, "add --yes to look at 5 archived documents")
	stdout, _ = l.do(exitOK, "", "replay", "--from", "archive", "--yes", "--json")
	require.Len(t, withFate(l.fates(stdout), operate.RefillCompleted), 5)
	after, n, _ := l.awaitEnds(5)
	require.Equal(t, before, after, "the records are those that were lost")
	require.Len(t, n, 5)
	for id := range before {
		stdout, _ = l.do(exitOK, "", "status", id, "--json")
		require.Contains(t, stdout, `"state": "completed"`)
		require.Contains(t, stdout, `"archived"`)
	}
	l.do(exitOK, "", "archive", "run", "--now")
	l.do(exitOK, "", "archive", "verify")
	require.Len(t, withFate(l.refill(exitOK, "--yes"), operate.RefillCompleted), 5)
	l.end(syscall.SIGTERM)
}
