package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/deploy/millrace/operate"
	"github.com/jobspy/millrace/deploy/millrace/up"
	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// programVar makes the test binary be the program itself, for what needs a process of its own.
const programVar = "MILLRACE_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programVar) != "" {
		os.Exit(start())
	}
	os.Exit(m.Run())
}

// running is "millrace up" in a process of its own.
type running struct {
	t    *testing.T
	dir  string
	cmd  *exec.Cmd
	bus  *bus.JetStream
	keys map[string]string
}

// startUp starts a line over a folder, with settings, and waits until it is up.
func startUp(t *testing.T, dir string, env ...string) *running {
	t.Helper()
	r := &running{t: t, dir: dir}
	r.cmd = exec.CommandContext(t.Context(), os.Args[0], "up", "--data", dir, "--nats", "127.0.0.1:0", "--s3", "127.0.0.1:0", "--http", "127.0.0.1:0")
	r.cmd.Env = append(os.Environ(), programVar+"=1", "LOG_LEVEL=error", "GIVE_WAY=0s", "SOURCE_GREENHOUSE_URL=https://unreachable.invalid")
	r.cmd.Env = append(r.cmd.Env, env...)
	out, err := r.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, r.cmd.Start())
	t.Cleanup(func() { _ = r.cmd.Process.Kill() }) // it has ended unless the test failed
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "millrace is up")
	r.keys, err = up.ReadCredentials(dir)
	require.NoError(t, err)
	r.bus, err = bus.Connect(t.Context(), bus.Settings{URL: r.keys["NATS_URL"], Name: "test", Log: zerolog.Nop()})
	require.NoError(t, err)
	return r
}

// end ends the line with a signal, and then loses all that the broker had.
func (r *running) end(signal syscall.Signal) {
	r.t.Helper()
	require.NoError(r.t, r.bus.Close())
	require.NoError(r.t, r.cmd.Process.Signal(signal))
	_ = r.cmd.Wait() // the error is the signal
	require.NoError(r.t, os.RemoveAll(filepath.Join(r.dir, "nats")))
}

func (r *running) do(want int, stdin string, args ...string) (stdout, stderr string) {
	r.t.Helper()
	code, stdout, stderr := call(r.t.Context(), nil, stdin, append(args, "--data", r.dir)...)
	require.Equal(r.t, want, code, stderr)
	return stdout, stderr
}

// ends returns the newest record of each document that completed, how many each has, and
// the documents that have a dead letter.
func (r *running) ends() (records map[string]doc.Record, n map[string]int, dead map[string]bool) {
	r.t.Helper()
	records, n, dead = map[string]doc.Record{}, map[string]int{}, map[string]bool{}
	for m, err := range r.bus.Scan(r.t.Context(), contract.StreamCompleted, "", 0) {
		require.NoError(r.t, err)
		var rec doc.Record
		require.NoError(r.t, codec.Unmarshal(m.Body, &rec))
		records[rec.Metadata.FileID] = rec
		n[rec.Metadata.FileID]++
	}
	for m, err := range r.bus.Scan(r.t.Context(), contract.StreamDLQ, "", 0) {
		require.NoError(r.t, err)
		dead[m.Header[contract.HeaderFileID]] = true
	}
	return records, n, dead
}

// awaitEnds waits until so many documents have ended.
func (r *running) awaitEnds(want int) (records map[string]doc.Record, n map[string]int, dead map[string]bool) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		records, n, dead = r.ends()
		return len(records)+len(dead) >= want
	}, time.Minute, 50*time.Millisecond)
	require.Len(r.t, records, want-len(dead))
	return records, n, dead
}

// files returns what lies under folders of the buckets, by bucket/key.
func (r *running) files(folders ...string) map[string]string {
	r.t.Helper()
	all := map[string]string{}
	for _, folder := range folders {
		root := filepath.Join(r.dir, "buckets") + "/"
		require.NoError(r.t, filepath.WalkDir(root+folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			body, err := os.ReadFile(path)
			all[strings.TrimPrefix(path, root)] = string(body)
			return err
		}))
	}
	return all
}

// stored returns what no refill may change.
func (r *running) stored() map[string]string {
	r.t.Helper()
	return r.files("llm-raw/by_date", "llm-processed/validated", "llm-processed/enriched", "llm-processed/standardized", "job-data/processed")
}

// originals returns the metadata of the raw objects.
func (r *running) originals() map[string]doc.Original {
	r.t.Helper()
	s, err := store.OpenS3(r.t.Context(), store.S3Settings{
		Endpoint: r.keys["S3_ENDPOINT"], AccessKey: r.keys["S3_ACCESS_KEY"], SecretKey: r.keys["S3_SECRET_KEY"],
	})
	require.NoError(r.t, err)
	defer s.Close()
	all := map[string]doc.Original{}
	for info, err := range s.List(r.t.Context(), contract.BucketRaw, string(contract.ByDate)+"/") {
		require.NoError(r.t, err)
		info, err := s.Stat(r.t.Context(), info.Ref)
		require.NoError(r.t, err)
		o, err := doc.ReadOriginal(info.Ref, info.Meta)
		require.NoError(r.t, err)
		all[o.FileID] = o
	}
	return all
}

// refill runs the command and returns the fates of the documents.
func (r *running) refill(want int, args ...string) map[string]operate.Refilled {
	r.t.Helper()
	stdout, _ := r.do(want, "", append([]string{"replay", "--from", "raw", "--json"}, args...)...)
	return r.fates(stdout)
}

// fates reads what a replay prints.
func (r *running) fates(stdout string) map[string]operate.Refilled {
	r.t.Helper()
	all := map[string]operate.Refilled{}
	for line := range strings.Lines(stdout) {
		var one operate.Refilled
		require.NoError(r.t, codec.Unmarshal([]byte(line), &one))
		all[one.FileID] = one
	}
	return all
}

// withFate returns the file_ids of one fate.
func withFate(all map[string]operate.Refilled, f operate.Fate) map[string]bool {
	ids := map[string]bool{}
	for id, one := range all {
		if one.Fate == f {
			ids[id] = true
		}
	}
	return ids
}

func TestALineIsRefilledAfterItsBrokerLostEverything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := startUp(t, dir)
	l.do(exitOK, "", "publish", "../../schemas/examples")
	l.do(exitOK, strings.Repeat(`{"jobs":[{"title":"Baker"}]}`+"\n", 20), "publish", "--task", "job_extraction", "--provider", "openai", "-")
	l.do(exitOK, `{"jobs":[{"title":"`+strings.Repeat("x", 300<<10)+`"}]}`, "publish", "--task", "job_extraction", "--provider", "openai", "--lane", "high", "-")
	before, _, dead := l.awaitEnds(30)
	require.Len(t, dead, 1)
	kept := l.stored()

	// What is under way when the machine dies is in the bucket, but not done.
	l.do(exitOK, strings.Repeat(`{"jobs":[{"title":"Cook"}]}`+"\n", 600), "publish", "--task", "job_extraction", "--provider", "google", "-")
	l.end(syscall.SIGKILL)
	l = startUp(t, dir)
	originals := l.originals()
	done := l.files("job-data/processed")
	for path, body := range l.stored() {
		if want, was := kept[path]; was {
			require.Equal(t, want, body)
		}
		kept[path] = body
	}
	require.Greater(t, len(originals), len(done)+1, "some documents are under way")
	damaged := ""
	for id, o := range originals {
		if _, completed := done[doc.ResultRef(o.CreatedAt, id).String()]; !completed && !dead[id] {
			path := "llm-raw/by_date/" + doc.Date(o.CreatedAt) + "/" + o.Name
			kept[path] = strings.ReplaceAll(kept[path], "Cook", "Crook")
			require.NoError(t, os.WriteFile(filepath.Join(dir, "buckets", path), []byte(kept[path]), 0o600))
			damaged = id
			break
		}
	}

	dry := l.refill(exitFailed, "--dry-run")
	records, _, _ := l.ends()
	require.Empty(t, records, "a dry run changes nothing")
	_, stderr := l.do(exitUsage, "", "replay", "--from", "raw")
	require.Contains(t, stderr, fmt.Sprintf("add --yes to look at %d raw objects", len(originals)))

	fates := l.refill(exitFailed, "--yes")
	require.Len(t, fates, len(originals))
	for id, one := range fates {
		require.Equal(t, dry[id].Fate, one.Fate)
	}
	require.Equal(t, map[string]bool{damaged: true}, withFate(fates, operate.RefillDamaged))
	require.Equal(t, dead, withFate(fates, operate.RefillDead))
	require.Len(t, withFate(fates, operate.RefillCompleted), len(done))
	require.Len(t, withFate(fates, operate.RefillSent), len(originals)-len(done)-2)

	after, n, _ := l.awaitEnds(len(originals) - 2)
	for id, count := range n {
		require.Equal(t, 1, count, "one record of %s", id)
		o, rec := originals[id], after[id]
		require.Equal(t, o.CreatedAt, rec.Metadata.CreatedAt.UTC())
		require.Equal(t, o.Lane, rec.Metadata.Priority)
		require.Equal(t, doc.Views(contract.ClassRaw, contract.Views(), o.CreatedAt, o.Provider, o.Task, o.Name), rec.Objects[:3])
		if was, completed := before[id]; completed {
			was.Timeline = []doc.Step{}
			require.Equal(t, was, rec, "the record is the one that was lost, but for its timeline")
		}
	}
	now := l.stored()
	for path, body := range kept {
		require.Equal(t, body, now[path], "%s stays as it is", path)
	}
	require.Len(t, l.originals(), len(originals), "no document got a second name")

	for id := range before {
		stdout, _ := l.do(exitOK, "", "status", id, "--json")
		require.Contains(t, stdout, `"state": "completed"`)
		require.Contains(t, stdout, `"outcome"`)
		break
	}
	again := l.refill(exitFailed, "--yes")
	require.Len(t, withFate(again, operate.RefillCompleted), len(after))
	require.Empty(t, withFate(again, operate.RefillSent))
	for _, one := range again {
		require.False(t, one.Record || one.Ledger, "nothing was left to restore: %+v", one)
	}
	l.refill(exitOK, "--id", maxKey(dead), "--dead", "--yes")
	_, n, back := l.awaitEnds(len(after) + 1)
	require.Equal(t, dead, back, "the same dead letter comes again")
	require.Len(t, n, len(after))
	l.do(exitNotFound, "", "replay", "--from", "raw", "--id", "nobody", "--yes")
	l.end(syscall.SIGTERM)
}

// maxKey returns the last key of m.
func maxKey(m map[string]bool) (last string) {
	for k := range maps.Keys(m) {
		last = max(last, k)
	}
	return last
}
