package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/letters"
)

// lettersVar makes the test of three causes work with so many dead letters instead of a few
// hundred.
const lettersVar = "MILLRACE_TEST_LETTERS"

// lettersWanted is how many dead letters there are of the three causes together.
func lettersWanted(t *testing.T) int {
	t.Helper()
	s := os.Getenv(lettersVar)
	if s == "" {
		return 300
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err)
	return n
}

// targets is how many documents those of the second cause wait for.
const targets = 10

// bad publishes documents that fail for three causes in turn and waits until all are dead
// letters.
func (r *running) bad(total int) {
	r.t.Helper()
	g, ctx := errgroup.WithContext(r.t.Context())
	g.SetLimit(32)
	for n := range total {
		id, subject, body := badDocument(n)
		g.Go(func() error {
			_, err := r.bus.Publish(ctx, bus.Message{
				Subject: contract.RootRaw + "." + subject, Body: []byte(body), Header: bus.Header{contract.HeaderFileID: id},
			})
			return err
		})
	}
	require.NoError(r.t, g.Wait())
	require.Eventually(r.t, func() bool { return r.deadLetters() == total }, 10*time.Minute, 50*time.Millisecond)
}

// badDocument returns the n-th document that fails: in turn without a title, about a document
// that is not there, and with a checksum that is not its own.
func badDocument(n int) (id, subject, body string) {
	switch n % 3 {
	case 0:
		return fmt.Sprintf("untitled-%d", n), "job_extraction.openai",
			fmt.Sprintf(`{"metadata":{"user_id":"u%d"},"content":{"jobs":[{"company":"Acme %d"}]}}`, n, n)
	case 1:
		return fmt.Sprintf("early-%d", n), "data_enrichment.google",
			fmt.Sprintf(`{"metadata":{},"content":{"target":{"file_id":"target-%d"},"facts":{"rating":%d}}}`, n/3%targets, n)
	default:
		return fmt.Sprintf("damaged-%d", n), "job_extraction.deepseek",
			fmt.Sprintf(`{"metadata":{"checksum":"%064x"},"content":{"jobs":[{"title":"Cook %d"}]}}`, n, n)
	}
}

// deadLetters returns how many messages LLM_DLQ holds, those that were replayed among them.
func (r *running) deadLetters() int {
	r.t.Helper()
	info, err := r.bus.Info(r.t.Context(), contract.StreamDLQ)
	require.NoError(r.t, err)
	return int(info.Messages)
}

// groupsOf returns the groups by reason.
func (r *running) groupsOf() map[contract.Reason]letters.Group {
	r.t.Helper()
	stdout, _ := r.do(exitOK, "", "dlq", "ls", "--group", "--json")
	var groups []letters.Group
	require.NoError(r.t, codec.Unmarshal([]byte(stdout), &groups))
	found := map[contract.Reason]letters.Group{}
	for _, g := range groups {
		found[g.Reason] = g
	}
	require.Len(r.t, found, len(groups), "one group for each cause: %s", stdout)
	return found
}

// jobsOf returns the jobs, oldest first.
func (r *running) jobsOf() (jobs []letters.Job) {
	r.t.Helper()
	stdout, _ := r.do(exitOK, "", "dlq", "jobs", "--json")
	require.NoError(r.t, codec.Unmarshal([]byte(stdout), &jobs))
	return jobs
}

// replaysOf returns how many dead letters of a group failed after so many replays.
func (r *running) replaysOf(group string) map[int]int {
	r.t.Helper()
	stdout, _ := r.do(exitOK, "", "dlq", "ls", "--group-id", group, "--limit", "0", "--json")
	var found []letters.Letter
	require.NoError(r.t, codec.Unmarshal([]byte(stdout), &found))
	n := map[int]int{}
	for i := range found {
		n[found[i].Replays]++
	}
	return n
}

// user is somebody at a terminal, whose commands are counted.
type user struct {
	*running
	commands int
}

// types runs a command and returns all that it shows.
func (u *user) types(want int, stdin string, args ...string) string {
	u.t.Helper()
	u.commands++
	began := time.Now()
	stdout, stderr := u.do(want, stdin, args...)
	u.t.Logf("command %d took %s: millrace %s", u.commands, time.Since(began).Round(time.Millisecond), strings.Join(args, " "))
	return stdout + stderr
}

func TestDeadLettersOfThreeCausesAreMendedInFiveCommands(t *testing.T) {
	t.Parallel()
	total := lettersWanted(t)
	each := map[contract.Reason]int{
		contract.ReasonSchema: (total + 2) / 3, contract.ReasonUnroutable: (total + 1) / 3, contract.ReasonIntegrity: total / 3,
	}
	l := startUp(t, t.TempDir(), "JOIN_DEADLINE=1s")
	began := time.Now()
	l.bad(total)
	t.Logf("%d documents failed within %s", total, time.Since(began).Round(time.Millisecond))

	u := &user{running: l}
	shown := u.types(exitOK, "", "dlq", "ls", "--group")
	require.Equal(t, 4, strings.Count(shown, "\n"), "a heading and three groups:\n%s", shown)
	groups := l.groupsOf()
	for reason, n := range each {
		require.Equal(t, n, groups[reason].Count, reason)
		require.Regexp(t, fmt.Sprintf(`(?m)^%s\s+%d\s.*\s%s\s`, groups[reason].ID, n, reason), shown)
	}

	// The documents they are about are still not there: the canary comes back, and the rest is
	// left alone.
	early := groups[contract.ReasonUnroutable].ID
	shown = u.types(exitFailed, "", "dlq", "replay", "--group-id", early, "--canary", "5", "--yes")
	require.Contains(t, shown, "canary: 5 of 5 came back")
	stopped := l.jobsOf()[0]
	require.Equal(t, []any{letters.JobStopped, 5, 5}, []any{stopped.State, stopped.Sent, stopped.Failed})
	require.Equal(t, map[int]int{0: each[contract.ReasonUnroutable] - 5, 1: 5}, l.replaysOf(early))
	require.Equal(t, total+5, l.deadLetters())

	// The causes are mended: the documents come, and a patch gives the others what they lack.
	for n := range targets {
		l.do(exitOK, `{"jobs":[{"title":"Baker"}]}`, "publish", "--task", "job_extraction", "--provider", "openai", "--file-id", fmt.Sprintf("target-%d", n), "-")
	}
	require.Eventually(t, func() bool { records, _, _ := l.ends(); return len(records) == targets }, time.Minute, 50*time.Millisecond)
	for _, one := range []struct {
		reason contract.Reason
		args   []string
		patch  string
	}{
		{contract.ReasonUnroutable, nil, ""},
		{contract.ReasonSchema, []string{"--patch", "-", "--stop-on-failure", "1%"}, `{"content":{"jobs":[{"title":"Baker"}]}}`},
		{contract.ReasonIntegrity, []string{"--patch", "-", "--rate", "1000/s"}, `{"metadata":{"checksum":null}}`},
	} {
		args := append([]string{"dlq", "replay", "--group-id", groups[one.reason].ID, "--canary", "5", "--yes"}, one.args...)
		n := each[one.reason]
		require.Contains(t, u.types(exitOK, one.patch, args...), fmt.Sprintf("%d of %d sent, %d completed, 0 came back, 0 skipped", n, n, n))
	}
	require.Equal(t, 5, u.commands)

	require.Empty(t, l.groupsOf())
	records, n, _ := l.ends()
	require.Len(t, records, total+targets, "all completed")
	for id, count := range n {
		require.Equal(t, 1, count, "one record of %s", id)
	}
	for m, err := range l.bus.Scan(t.Context(), contract.StreamRetry, contract.CronSubject("*"), 0) {
		require.NoError(t, err)
		require.Equal(t, contract.CronSubject(contract.CronArchive), m.Subject, "no job has a timer any more")
	}
	l.end(syscall.SIGTERM)
}

func TestAPatchThatDoesNotHelpIsSeenBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	l := startUp(t, t.TempDir(), "JOIN_DEADLINE=1s")
	l.bad(6)
	groups := l.groupsOf()
	early := groups[contract.ReasonUnroutable]
	require.Equal(t, "target <id> is not known", early.Shape)
	stdout, _ := l.do(exitOK, "", "dlq", "show", strconv.FormatUint(early.Sample, 10))
	for _, want := range []string{"target-", early.ID, `"facts"`, "attempts", "timeline", "aggregate  failed: unroutable"} {
		require.Contains(t, stdout, want)
	}
	untitled := groups[contract.ReasonSchema].ID
	stdout, stderr := l.do(exitFailed, `{"content":{"jobs":[{"title":7}]}}`, "dlq", "replay", "--group-id", untitled, "--patch", "-", "--yes")
	require.Empty(t, stdout)
	require.Equal(t, 2, strings.Count(stderr, "is not sent: patched, it would be refused: content does not fit schema job_extraction/1"))
	require.Contains(t, stderr, "nothing was sent, 2 refused")
	stdout, stderr = l.do(exitOK, "", "dlq", "replay", "--dry-run")
	require.Equal(t, 6, strings.Count(stdout, "\n"))
	require.Contains(t, stderr, "dry run: 6 would be replayed")
	require.Empty(t, l.jobsOf())
	require.Equal(t, 6, l.deadLetters())
	l.end(syscall.SIGTERM)
}

func TestTheDeadLetterOfTheReadmeIsMendedAsItSays(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	id := regexp.MustCompile(`--group-id ([0-9a-f]+)`).FindSubmatch(readme)
	patch := regexp.MustCompile(`echo '(.*)' > fix.json`).FindSubmatch(readme)
	l := startUp(t, t.TempDir())
	l.do(exitOK, "", "publish", "../../schemas/examples")
	_, _, dead := l.awaitEnds(9)
	require.Len(t, dead, 1)
	_, stderr := l.do(exitOK, string(patch[1]), "dlq", "replay", "--group-id", string(id[1]), "--patch", "-", "--canary", "5", "--stop-on-failure", "10%")
	require.Contains(t, stderr, "1 of 1 sent, 1 completed")
	l.end(syscall.SIGTERM)
}

func TestAReplayGoesOnAfterItsTerminalIsClosedAndItsLineKilled(t *testing.T) {
	t.Parallel()
	const each = 60
	dir := t.TempDir()
	l := startUp(t, dir, "JOIN_DEADLINE=1s")
	l.bad(3 * each)
	group := l.groupsOf()[contract.ReasonSchema].ID
	terminal := exec.CommandContext(t.Context(), os.Args[0], "dlq", "replay", "--group-id", group, "--patch", "-", "--rate", "4/s", "--yes", "--data", dir)
	terminal.Env = append(os.Environ(), programVar+"=1")
	terminal.Stdin = strings.NewReader(`{"content":{"jobs":[{"title":"Baker"}]}}`)
	require.NoError(t, terminal.Start())
	sent := func() int {
		jobs := l.jobsOf()
		if len(jobs) == 0 {
			return 0
		}
		return jobs[0].Sent
	}
	require.Eventually(t, func() bool { return sent() > 0 }, time.Minute, 10*time.Millisecond)
	require.NoError(t, terminal.Process.Kill()) // a hangup is ignored where the tests run without a terminal
	require.Error(t, terminal.Wait(), "it ended by the signal")
	before := sent()
	require.Eventually(t, func() bool { return sent() > before+10 }, time.Minute, 10*time.Millisecond)

	require.NoError(t, l.bus.Close())
	require.NoError(t, l.cmd.Process.Signal(syscall.SIGKILL))
	_ = l.cmd.Wait() // the error is the signal
	l = startUp(t, dir, "JOIN_DEADLINE=1s")
	require.Less(t, sent(), each, "it was killed in the middle")
	// What was in the hands of the stages is delivered again only after the broker's wait.
	require.Eventually(t, func() bool { return l.jobsOf()[0].State == letters.JobDone }, 3*time.Minute, 50*time.Millisecond)
	j := l.jobsOf()[0]
	require.Equal(t, []int{each, each, 0, 0}, []int{j.Sent, j.Completed, j.Failed, j.Skipped})
	_, n, _ := l.ends()
	require.Len(t, n, each)
	for id, count := range n {
		require.Equal(t, 1, count, "one record of %s", id)
	}
	for m, err := range l.bus.Scan(t.Context(), contract.StreamCompleted, "", 0) {
		require.NoError(t, err)
		require.Equal(t, "1", m.Header[contract.HeaderReplayCount])
	}
	l.end(syscall.SIGTERM)
}
