package backup

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// filled is a line without stages that holds a document in two queues, a retry, a record and
// an entry of the ledger, one value each.
func filled(t *testing.T) *bus.JetStream {
	t.Helper()
	b := bustest.JetStream(t, topology.Options{})
	for _, s := range []contract.Stage{contract.Validate, contract.Archive} {
		publish(t, b, contract.StageSubject(s, contract.Normal, "job_extraction", "openai"), "waiting-"+string(s))
	}
	require.NoError(t, b.Schedule(t.Context(), bus.Message{
		Subject: contract.RetrySubject(contract.Validate, "retried", 0), Body: []byte("retried"),
	}, time.Now().Add(time.Hour), contract.DueSubject(contract.Validate, contract.Normal)))
	publish(t, b, contract.CompletedSubject("job_extraction", "openai"), "done")
	open(t, b, "waiting-validate")
	return b
}

func publish(t *testing.T, b *bus.JetStream, subject, id string) {
	t.Helper()
	_, err := b.Publish(t.Context(), bus.Message{
		Subject: subject, ID: id, Header: bus.Header{contract.HeaderFileID: id}, Body: []byte(`{"metadata":{"checksum":"sha256:ab"}}`),
	})
	require.NoError(t, err)
}

func entries(t *testing.T, b *bus.JetStream) *ledger.Ledger {
	t.Helper()
	l, err := ledger.OpenLedger(t.Context(), b, time.Hour, time.Now)
	require.NoError(t, err)
	return l
}

func open(t *testing.T, b *bus.JetStream, id string) {
	t.Helper()
	_, _, err := entries(t, b).Open(t.Context(), id, ledger.Entry{SHA256: "ab"})
	require.NoError(t, err)
}

func save(t *testing.T, b *bus.JetStream) (string, Manifest) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "backup")
	made, err := (&Backup{Bus: b, Now: time.Now}).To(t.Context(), dir)
	require.NoError(t, err)
	read, err := Read(dir)
	require.NoError(t, err)
	require.Len(t, read.Streams, len(made.Streams))
	return dir, read
}

func restorer(b *bus.JetStream) *Restore {
	return &Restore{Bus: b, LedgerTTL: time.Hour, Now: time.Now}
}

// counts returns how many messages each stream of a plan holds.
func counts(t *testing.T, b *bus.JetStream) map[string]uint64 {
	t.Helper()
	n := map[string]uint64{}
	for _, s := range topology.Plan(topology.Options{}).Streams {
		info, err := b.Info(t.Context(), s.Name)
		require.NoError(t, err)
		n[s.Name] = info.Messages
	}
	return n
}

func TestABackupComesBackOnAnotherBroker(t *testing.T) {
	t.Parallel()
	from := filled(t)
	dir, m := save(t, from)
	require.Zero(t, m.InHand)
	to := bustest.JetStream(t, topology.Options{})
	done, err := restorer(to).From(t.Context(), dir, m)
	require.NoError(t, err)
	require.Equal(t, 1, done.Ended, "the record has no entry in the ledger")
	want := counts(t, from)
	delete(want, contract.StreamResult)
	have := counts(t, to)
	for stream, n := range want {
		require.Equal(t, n, have[stream], stream)
	}
	found, err := topology.Check(t.Context(), to.JetStream(), topology.Plan(bustest.Options(topology.Options{})))
	require.NoError(t, err)
	require.Empty(t, found, "streams and consumers are as planned")

	e, err := entries(t, to).Read(t.Context(), "waiting-validate")
	require.NoError(t, err)
	require.Equal(t, ledger.Open, e.State)
	e, err = entries(t, to).Read(t.Context(), "done")
	require.NoError(t, err)
	require.Equal(t, ledger.Done, e.State)
	require.Equal(t, "ab", e.SHA256)
	taken := make(chan bus.Delivery, 1)
	sub, err := to.Consume(t.Context(), contract.StageStream(contract.Validate), contract.Consumer(contract.Validate, contract.Normal), 1,
		func(d bus.Delivery) { taken <- d })
	require.NoError(t, err)
	defer sub.Stop()
	require.Equal(t, "waiting-validate", (<-taken).Message().Header[contract.HeaderFileID])
}

func TestRetriesGoOnAfterABackup(t *testing.T) {
	t.Parallel()
	b := filled(t)
	save(t, b)
	for _, s := range contract.Stages() {
		c, err := b.JetStream().Consumer(t.Context(), contract.StreamRetry, contract.DueConsumer(s))
		require.NoError(t, err)
		require.False(t, c.CachedInfo().Paused)
	}
}

func TestWhatIsThereIsReplacedOnlyWhenAskedTo(t *testing.T) {
	t.Parallel()
	b := filled(t)
	dir, m := save(t, b)
	before := counts(t, b)
	_, err := restorer(b).From(t.Context(), dir, m)
	require.ErrorIs(t, err, ErrInUse)
	require.EqualError(t, err, "the broker holds something already: KV_LLM_LEDGER, LLM_VALIDATE, LLM_ARCHIVE, LLM_RETRY, LLM_COMPLETED")
	require.Equal(t, before, counts(t, b), "nothing was done")

	publish(t, b, contract.CompletedSubject("job_extraction", "openai"), "later")
	r := restorer(b)
	r.Replace = true
	_, err = r.From(t.Context(), dir, m)
	require.NoError(t, err)
	require.Equal(t, before, counts(t, b))
}

func TestADamagedBackupIsRefused(t *testing.T) {
	t.Parallel()
	b := filled(t)
	victim := contract.StreamCompleted + ".snapshot"
	tests := []struct {
		name   string
		damage func(t *testing.T, path string)
		want   string
	}{
		{"a byte is another", func(t *testing.T, path string) {
			t.Helper()
			body, err := os.ReadFile(path)
			require.NoError(t, err)
			body[len(body)/2] ^= 1
			require.NoError(t, os.WriteFile(path, body, 0o600))
		}, "the backup is damaged: " + victim + " has another sha256 than in the manifest"},
		{"it is shorter", func(t *testing.T, path string) {
			t.Helper()
			require.NoError(t, os.Truncate(path, 10))
		}, "the backup is damaged: " + victim + " has 10 bytes instead of %d"},
		{"it is gone", func(t *testing.T, path string) {
			t.Helper()
			require.NoError(t, os.Remove(path))
		}, "the backup is damaged: " + victim + " cannot be opened"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, m := save(t, b)
			tt.damage(t, filepath.Join(dir, victim))
			_, err := Read(dir)
			var damage *DamageError
			require.ErrorAs(t, err, &damage)
			for _, p := range m.Streams {
				if p.File == victim && tt.name == "it is shorter" {
					tt.want = fmt.Sprintf(tt.want, p.Bytes)
				}
			}
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestAnUnfinishedBackupIsNone(t *testing.T) {
	t.Parallel()
	dir, _ := save(t, filled(t))
	require.NoError(t, os.Remove(filepath.Join(dir, ManifestFile)))
	_, err := Read(dir)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = (&Backup{Now: time.Now}).To(t.Context(), dir)
	require.ErrorContains(t, err, "is not empty")
}
