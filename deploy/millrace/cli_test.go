package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/letters"
	"github.com/jobspy/millrace/shared/topology"
)

// call runs a command line and returns its exit code and output.
func call(ctx context.Context, environ []string, stdin string, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(ctx, args, streams{in: strings.NewReader(stdin), out: &out, err: &err}, environ)
	return code, out.String(), err.String()
}

func TestUsage(t *testing.T) {
	t.Parallel()
	archive, err := txtar.ParseFile("testdata/usage.txtar")
	require.NoError(t, err)
	for _, f := range archive.Files {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			want := strings.Split(strings.TrimSpace(string(f.Data)), "\n")
			wantCode, err := strconv.Atoi(want[0])
			require.NoError(t, err)
			code, stdout, stderr := call(t.Context(), []string{"NATS_URL=nats://127.0.0.1:1"}, "", strings.Fields(f.Name)...)
			require.Equal(t, wantCode, code, stderr)
			for _, text := range want[1:] {
				require.Contains(t, stdout+stderr, text)
			}
			if code != exitOK {
				require.Empty(t, stdout)
				require.True(t, strings.HasPrefix(stderr, "millrace: "), stderr)
			}
		})
	}
}

func TestWrongSettingsAreUsage(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]string{
		"S3_SECURE=perhaps": "the settings are wrong", "S3_ACCESS_KEY_FILE=testdata/nowhere": "read S3_ACCESS_KEY_FILE",
	} {
		code, _, stderr := call(t.Context(), []string{setting}, "", "status")
		require.Equal(t, exitUsage, code)
		require.Contains(t, stderr, want)
	}
	code, _, stderr := call(t.Context(), []string{"STREAM_REPLICAS=many"}, "", "provision")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, `STREAM_REPLICAS is "many", must be from 1 to 5`)
}

func TestWhatUpWroteDownFillsTheGaps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kept := "# a comment\nS3_ACCESS_KEY=kept-a\nS3_SECRET_KEY=kept-s\nS3_ENDPOINT=kept:9000\nNATS_URL=nats://kept:4222\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "credentials.env"), []byte(kept), 0o600))
	tests := []struct {
		name                   string
		flags                  connection
		env                    map[string]string
		nats, endpoint, access string
	}{
		{"nothing is set", connection{}, nil, "nats://kept:4222", "kept:9000", "kept-a"},
		{"the environment wins", connection{}, map[string]string{"NATS_URL": "nats://env:1"}, "nats://env:1", "kept:9000", "kept-a"},
		{"flags win", connection{Nats: "nats://flag:1", S3: "flag:2"}, map[string]string{"NATS_URL": "nats://env:1"}, "nats://flag:1", "flag:2", "kept-a"},
		{
			"keys of its own win",
			connection{},
			map[string]string{"S3_ACCESS_KEY": "a", "S3_SECRET_KEY": "s"},
			"nats://kept:4222", "kept:9000", "a",
		},
	}
	for _, tt := range tests {
		g := &globals{env: tt.env}
		tt.flags.Data = dir
		require.NoError(t, tt.flags.AfterApply(g), tt.name)
		require.Equal(t, []string{tt.nats, tt.endpoint, tt.access},
			[]string{g.common.NATS.URL, g.common.S3.Endpoint, string(g.common.S3.AccessKey)}, tt.name)
	}
}

func TestANamedFolderWithoutALineIsNotTheDefaultLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, command := range [][]string{{"publish", "x.json"}, {"status"}, {"dlq", "rm", "--yes"}, {"provision"}, {"doctor"}} {
		code, _, stderr := call(t.Context(), nil, "", append(command, "--data", dir)...)
		require.Equal(t, exitUsage, code, command)
		require.Contains(t, stderr, dir+" has no credentials.env", command)
	}
	for _, c := range []struct {
		flags connection
		env   map[string]string
	}{
		{connection{Data: dir, Nats: "nats://flag:1"}, nil},
		{connection{Data: dir}, map[string]string{"NATS_URL": "nats://env:1"}},
		{connection{}, nil},
	} {
		require.NoError(t, c.flags.AfterApply(&globals{env: c.env}))
	}
}

// line is a provisioned broker without stages, and without an object store.
type line struct {
	t    *testing.T
	bus  *bus.JetStream
	env  []string
	data string
}

func setup(t *testing.T) *line {
	t.Helper()
	server := bustest.Server(t)
	j := bustest.Connect(t, server)
	bustest.Provision(t, j, topology.Options{})
	return &line{t: t, bus: j, data: t.TempDir(), env: []string{
		"NATS_URL=" + server.ClientURL(), "S3_ENDPOINT=127.0.0.1:1", "S3_ACCESS_KEY=a", "S3_SECRET_KEY=s",
	}}
}

// do runs a command and expects an exit code.
func (l *line) do(want int, stdin string, args ...string) (stdout, stderr string) {
	l.t.Helper()
	code, stdout, stderr := call(l.t.Context(), l.env, stdin, args...)
	require.Equal(l.t, want, code, stderr)
	return stdout, stderr
}

func TestFromPublishToReplay(t *testing.T) {
	t.Parallel()
	l := setup(t)
	body := `{"metadata":{"file_id":"doc-1","task_type":"job_extraction","llm_provider":"openai"},"content":{"jobs":[]}}`
	file := filepath.Join(l.data, "one.json")
	require.NoError(t, os.WriteFile(file, []byte(body), 0o600))

	stdout, stderr := l.do(exitFailed, "", "publish", file, filepath.Join(l.data, "gone.json"))
	require.Equal(t, "doc-1\n", stdout)
	require.Contains(t, stderr, "gone.json: no such file or directory")
	require.Contains(t, stderr, "1 of 2 documents were not published")
	_, stderr = l.do(exitOK, "", "publish", file)
	require.Contains(t, stderr, "duplicate")
	stdout, _ = l.do(exitOK, "1\n2\n", "publish", "--json", "--task", "intent_analysis", "-")
	require.Equal(t, 2, strings.Count(stdout, `"subject":"llm.raw.intent_analysis.unknown"`))
	_, stderr = l.do(exitFailed, strings.Repeat("x", 300<<10), "publish", "-")
	require.Contains(t, stderr, "standard input: 307200 bytes are too many for a message")

	stdout, _ = l.do(exitOK, "", "status")
	require.Regexp(t, `ingest\s+high\s+0\s+0\s+0`, stdout)
	require.Regexp(t, `\s+normal\s+3\s+0\s+0`, stdout)
	stdout, _ = l.do(exitOK, "", "status", "doc-1", "--json")
	require.Contains(t, stdout, `"state": "pending"`)
	_, stderr = l.do(exitNotFound, "", "status", "doc-2")
	require.Contains(t, stderr, "doc-2: no such document")

	_, stderr = l.do(exitOK, "", "dlq", "ls")
	require.Contains(t, stderr, "no dead letters")
	stdout, _ = l.do(exitOK, "", "dlq", "ls", "--json")
	require.Equal(t, "[]\n", stdout)
	l.bury("doc-1", body)
	l.bury("doc-2", "not \x1b[2J JSON")
	stdout, _ = l.do(exitOK, "", "dlq", "ls")
	require.Regexp(t, `1\s+\d+s\s+validate\s+schema\s+job_extraction\s+openai\s+doc-1\s+0\s+it does not fit`, stdout)
	stdout, _ = l.do(exitOK, "", "dlq", "show", "doc-1")
	require.Contains(t, stdout, `"jobs": []`)
	stdout, _ = l.do(exitOK, "", "dlq", "show", "2")
	require.NotContains(t, stdout, "\x1b")
	stdout, _ = l.do(exitOK, "", "dlq", "show", "--raw", "2")
	require.Equal(t, "not \x1b[2J JSON", stdout)
	stdout, _ = l.do(exitOK, "", "dlq", "show", "--json", "1")
	require.NoError(t, codec.Check([]byte(stdout), codec.DefaultDepth))
	l.do(exitNotFound, "", "dlq", "show", "17")

	_, stderr = l.do(exitUsage, "", "dlq", "replay")
	require.Contains(t, stderr, "add --yes to replay 2 dead letters")
	_, stderr = l.do(exitOK, "", "dlq", "replay", "--dry-run")
	require.Contains(t, stderr, "dry run: 2 would be replayed")
	stdout, _ = l.do(exitOK, `{"content":{"jobs":[{"title":"Baker"}]}}`, "dlq", "replay", "--id", "doc-1", "--patch", "-")
	require.Equal(t, "1\tdoc-1\tllm.validate.low.job_extraction.openai\treplay 1\n", stdout)
	_, stderr = l.do(exitNotFound, "", "dlq", "rm", "--seq", "17")
	require.Contains(t, stderr, "no dead letter is selected")
	_, stderr = l.do(exitNotFound, "", "dlq", "replay", "--seq", "1")
	require.Contains(t, stderr, "have been replayed before; --all takes them too")
	_, stderr = l.do(exitOK, "", "dlq", "rm", "--yes")
	require.Contains(t, stderr, "1 deleted")
	_, stderr = l.do(exitOK, "", "dlq", "rm", "--all")
	require.Contains(t, stderr, "1 deleted")
}

// until calls seen when text was written to it.
type until struct {
	bytes.Buffer
	text string
	seen func()
}

func (u *until) Write(p []byte) (int, error) {
	n, err := u.Buffer.Write(p)
	if strings.Contains(u.String(), u.text) {
		u.seen()
	}
	return n, err
}

func TestAReplayWithoutALineSaysThatItWaits(t *testing.T) {
	t.Parallel()
	l := setup(t)
	body := `{"metadata":{"file_id":"doc-1","task_type":"job_extraction","llm_provider":"openai"},"content":{"jobs":[{}]}}`
	l.bury("doc-1", body)
	l.bury("doc-2", strings.ReplaceAll(body, "doc-1", "doc-2"))
	l.bury("doc-3", "no JSON")
	stdout, _ := l.do(exitOK, "", "dlq", "ls", "--group", "--json")
	group := letters.Read(&bus.Stored{Subject: "llm.dlq.validate.schema", Header: bus.Header{contract.HeaderError: "it does not fit\x1b[2J"}}).Group
	require.Contains(t, stdout, `"count": 3`)
	require.Contains(t, stdout, `"id": "`+group+`"`)
	stdout, _ = l.do(exitOK, "", "dlq", "ls", "--group-id", "00000000", "--json")
	require.Equal(t, "[]\n", stdout)
	l.do(exitNotFound, "", "dlq", "replay", "--group-id", "00000000")
	l.do(exitNotFound, "", "dlq", "rm", "--group-id", "00000000")

	// A bad patch is told of each letter, and a dry run tells it too.
	_, stderr := l.do(exitFailed, `{"content":{"jobs":[{"company":"Acme"}]}}`, "dlq", "replay", "--group-id", group, "--patch", "-", "--dry-run")
	require.Contains(t, stderr, "dead letter 1 (doc-1) is not sent: patched, it would be refused: content does not fit schema job_extraction/1: /content/jobs/0: want member \"title\", got none")
	require.Contains(t, stderr, "dead letter 3 (doc-3) is not sent: the body is not JSON")
	require.Contains(t, stderr, "dry run: 0 would be replayed\n3 would be refused")
	stdout, _ = l.do(exitFailed, `{"content":{"jobs":[{}]}}`, "dlq", "replay", "--seq", "1", "--patch", "-", "--json")
	require.Contains(t, stdout, `"error":"patched, it would be refused`)
	for _, to := range []string{"ingest", "enrich", "standardize"} {
		l.do(exitFailed, `{"content":{"jobs":[{}]}}`, "dlq", "replay", "--seq", "1", "--patch", "-", "--dry-run", "--to-stage", to)
	}
	for _, to := range []string{"route", "aggregate"} { // there it has the standard form
		l.do(exitOK, `{"content":{"jobs":[{}]}}`, "dlq", "replay", "--seq", "1", "--patch", "-", "--dry-run", "--to-stage", to)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	told := &until{text: "waits: no archive stage is at work on it", seen: cancel}
	code := run(ctx, []string{"dlq", "replay", "--yes"}, streams{in: strings.NewReader(""), out: &out, err: told}, l.env)
	require.Equal(t, exitFailed, code)
	stdout, stderr = out.String(), told.String()
	require.Contains(t, stderr, told.text)
	require.Contains(t, stderr, "goes on in the line")
	id := strings.TrimSpace(strings.TrimPrefix(stdout, "job "))
	stdout, _ = l.do(exitOK, "", "dlq", "jobs")
	require.Regexp(t, id+`\s+\d+s\s+running(?: \(waits\))?\s+3\s+0\s+0\s+0\s+0\s+everything`, stdout)
	stdout, _ = l.do(exitOK, "", "dlq", "jobs", "cancel", id)
	require.Contains(t, stdout, "cancelled: 0 of 3 sent")
	stdout, _ = l.do(exitOK, "", "dlq", "jobs", "--json")
	require.Contains(t, stdout, `"state": "cancelled"`)
	require.NotContains(t, stdout, `"next"`, "how it is done is not told")
	stdout, _ = l.do(exitOK, "", "dlq", "jobs", "resume", id, "--detach")
	require.Equal(t, id+"\n", stdout)
	l.do(exitNotFound, "", "dlq", "jobs", "cancel", "nobody")
	l.do(exitNotFound, "", "dlq", "jobs", "resume", "nobody")
	stdout, _ = l.do(exitOK, "", "dlq", "replay", "--seq", "1", "--detach", "--json")
	require.Contains(t, stdout, `"state": "running"`)
}

func TestTheStoragePolicyIsShownCheckedAndSet(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.env = append(l.env, "STORE_VIEWS=by_date,by_task_type", "PREFETCH=of no concern here")
	stdout, stderr := l.do(exitOK, "", "config", "show", "storage")
	require.Contains(t, stderr, "nobody has set it")
	require.Contains(t, stdout, `"by_task_type"`)
	require.NotContains(t, stdout, "by_provider")

	_, stderr = l.do(exitFailed, `{"views":["by_moon"],"retention":{"raw":"30 days"}}`, "config", "set", "storage", "-")
	require.Contains(t, stderr, "/views/0: value must be one of 'by_date', 'by_provider', 'by_task_type'\n")
	require.Contains(t, stderr, "/retention/raw: '30 days' does not match pattern")
	require.Contains(t, stderr, "the storage policy is as it was, the new one has 2 faults")
	l.do(exitNotFound, "", "config", "set", "storage", filepath.Join(l.data, "nowhere"))
	l.do(exitUsage, "", "config", "set", "llm", "-")

	file := filepath.Join(l.data, "storage.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"views":["by_date"],"retention":{"raw":"30d"}}`), 0o600))
	const difference = "retention.raw: \"keep\" -> \"30d\"\nviews: [\"by_date\",\"by_task_type\"] -> [\"by_date\"]\n"
	stdout, stderr = l.do(exitOK, "", "config", "set", "storage", file, "--dry-run")
	require.Equal(t, difference, stdout)
	require.Contains(t, stderr, "nothing was changed")
	require.NotContains(t, stderr, "buckets")
	_, stderr = l.do(exitOK, `{"buckets":{"llm-raw":"acme-raw"}}`, "config", "set", "storage", "-", "--dry-run")
	require.Contains(t, stderr, "names of buckets are read at the start")
	stdout, _ = l.do(exitOK, "", "config", "set", "storage", file)
	require.Equal(t, difference, stdout)
	stdout, stderr = l.do(exitOK, "", "config", "set", "storage", file)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "nothing differs")
	stdout, stderr = l.do(exitOK, "", "config", "show", "storage")
	require.Empty(t, stderr)
	require.Contains(t, stdout, `"raw": "30d"`)
	l.do(exitOK, stdout, "config", "set", "storage", "-")

	kv, err := l.bus.KV(t.Context(), contract.KVConfig)
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), "storage", []byte("nonsense"), 0)
	require.NoError(t, err)
	_, stderr = l.do(exitFailed, "", "config", "show", "storage")
	require.Contains(t, stderr, "takes no effect")
	stdout, _ = l.do(exitFailed, "", "doctor", "--data", l.data, "--nats", l.env[0][len("NATS_URL="):])
	require.Regexp(t, `fail +policy +the storage policy is refused`, stdout)
	l.do(exitOK, "", "config", "set", "storage", file)
}

// bury publishes a dead letter of validate.
func (l *line) bury(fileID, body string) {
	l.t.Helper()
	_, err := l.bus.Publish(l.t.Context(), bus.Message{
		Subject: contract.DLQSubject(contract.Validate, contract.ReasonSchema), Body: []byte(body),
		Header: bus.Header{
			contract.HeaderFileID: fileID, contract.HeaderTask: "job_extraction", contract.HeaderProvider: "openai",
			contract.HeaderReason: "schema", contract.HeaderError: "it does not fit\x1b[2J",
			contract.HeaderOriginSubject: "llm.validate.low.job_extraction.openai",
		},
	})
	require.NoError(l.t, err)
}

func TestWithoutABrokerACommandSaysSo(t *testing.T) {
	t.Parallel()
	code, _, stderr := call(t.Context(), []string{"NATS_URL=nats://127.0.0.1:1"}, "", "status")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "broker nats://127.0.0.1:1: ")
}

func TestWithoutABrokerTheDoctorFails(t *testing.T) {
	t.Parallel()
	code, stdout, _ := call(t.Context(), []string{"NATS_URL=nats://127.0.0.1:1"}, "", "doctor", "--data", t.TempDir())
	require.Equal(t, exitFailed, code)
	require.Regexp(t, `fail +broker`, stdout)
}

func TestTheTableSurvivesHostileText(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	table := newTable(&out, "A", "B")
	table.row("x\ty\n", "\x1b]0;title\x07")
	require.NoError(t, table.flush())
	require.Equal(t, "A     B\nx y    ]0;title \n", out.String())
	require.Equal(t, "abc", cut("abc", 3))
	require.Equal(t, "ab…", cut("abcd", 3))
	require.Error(t, printLine(io.Discard, func() {}))
}
