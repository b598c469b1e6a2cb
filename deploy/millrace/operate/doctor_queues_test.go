package operate

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/topology"
)

// patience is how long a broker may take for what it does by itself.
const patience = 20 * time.Second

func put(t *testing.T, b *bus.JetStream, subject string) {
	t.Helper()
	_, err := b.Publish(t.Context(), bus.Message{Subject: subject, Body: []byte("{}")})
	require.NoError(t, err)
}

// found makes one check and returns what it noted.
func found(t *testing.T, check func(*Doctor)) Check {
	t.Helper()
	var d Doctor
	check(&d)
	require.Len(t, d.checks, 1)
	return d.checks[0]
}

func TestMessagesThatNobodyDeliversAreFound(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{MaxDeliver: 1, AckWait: time.Second})
	look := func() Check { return found(t, func(d *Doctor) { d.ghosts(t.Context(), b.JetStream()) }) }
	put(t, b, contract.StageSubject(contract.Validate, contract.Normal, "job_extraction", "openai"))
	require.NoError(t, b.Schedule(t.Context(), bus.Message{Subject: contract.RetrySubject(contract.Validate, "x", 0), Body: []byte("x")},
		time.Now().Add(time.Hour), contract.DueSubject(contract.Validate, contract.Normal)))
	require.Equal(t, OK, look().Verdict, "one waits for its stage, one for its time")

	put(t, b, contract.StageSubject(contract.Validate, "odd", "job_extraction", "openai"))
	put(t, b, contract.DueSubject("nobody", contract.Normal))
	got := look()
	require.Equal(t, Fail, got.Verdict)
	require.Equal(t, "messages that no consumer is going to deliver: 1 in LLM_RETRY, 1 in LLM_VALIDATE", got.Detail)

	// Delivered once, which is the most here, and not settled.
	sub, err := b.Consume(t.Context(), contract.StageStream(contract.Validate), contract.Consumer(contract.Validate, contract.Normal), 1, func(bus.Delivery) {})
	require.NoError(t, err)
	defer sub.Stop()
	require.Eventually(t, func() bool {
		return look().Detail == "messages that no consumer is going to deliver: 1 in LLM_RETRY, 2 in LLM_VALIDATE"
	}, patience, 100*time.Millisecond)
}

func TestAQueueThatIsNearlyFullIsFound(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{})
	look := func() Check { return found(t, func(d *Doctor) { d.room(t.Context(), b.JetStream()) }) }
	require.Equal(t, OK, look().Verdict)
	put(t, b, contract.StageSubject(contract.Validate, contract.Normal, "job_extraction", "openai"))
	s, err := b.JetStream().Stream(t.Context(), contract.StageStream(contract.Validate))
	require.NoError(t, err)
	info, err := s.Info(t.Context())
	require.NoError(t, err)
	c := info.Config
	c.MaxBytes = int64(info.State.Bytes)*100/fullWarn - 1
	_, err = b.JetStream().UpdateStream(t.Context(), c)
	require.NoError(t, err)
	got := look()
	require.Equal(t, Warn, got.Verdict)
	require.Contains(t, got.Detail, "LLM_VALIDATE is ")
}

func TestCopiesThatAreAwayAreFound(t *testing.T) {
	t.Parallel()
	servers := bustest.Cluster(t)
	b := bustest.Connect(t, servers[0])
	js := b.JetStream()
	look := func() Check { return found(t, func(d *Doctor) { d.copies(t.Context(), js) }) }
	c := jetstream.StreamConfig{Name: "LLM_COPIED", Subjects: []string{"copied"}, Replicas: 1}
	require.Eventually(t, func() bool { _, err := js.CreateOrUpdateStream(t.Context(), c); return err == nil }, patience, 100*time.Millisecond)
	got := look()
	require.Equal(t, Warn, got.Verdict)
	require.Equal(t, "one copy in a cluster, lost or away with its broker: LLM_COPIED", got.Detail)

	c.Replicas = len(servers)
	require.Eventually(t, func() bool { _, err := js.UpdateStream(t.Context(), c); return err == nil }, patience, 100*time.Millisecond)
	require.Eventually(t, func() bool { return look().Verdict == OK }, patience, 100*time.Millisecond)
	bustest.StopServer(servers[2])
	require.Eventually(t, func() bool {
		got := look()
		return got.Verdict == Warn && got.Detail == servers[2].Name()+" of LLM_COPIED is away"
	}, patience, 100*time.Millisecond)
}

func TestOneBrokerHasNoCopiesToLookAt(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{})
	var d Doctor
	d.copies(t.Context(), b.JetStream())
	require.Empty(t, d.checks)
}

func TestTheDoctorTellsTheRetention(t *testing.T) {
	t.Parallel()
	require.Equal(t, "all that is stored is kept", retention(policy.Retention{}))
	r := policy.Seed(nil).Retention
	require.Equal(t, "kept for: inbox 24h, claims 24h, the rest for ever", retention(r))
	r.Raw, r.Daily = "90d", "30d"
	require.Equal(t, "kept for: raw 90d, inbox 24h, claims 24h, daily 30d, the rest for ever", retention(r))
}

func TestAnotherDuplicateWindowOrConsumerIsFound(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{})
	js := b.JetStream()
	s, err := js.Stream(t.Context(), contract.StreamRaw)
	require.NoError(t, err)
	c := s.CachedInfo().Config
	c.Duplicates = time.Second
	_, err = js.UpdateStream(t.Context(), c)
	require.NoError(t, err)
	cons, err := js.Consumer(t.Context(), contract.StreamRaw, contract.Consumer(contract.Ingest, contract.High))
	require.NoError(t, err)
	cc := cons.CachedInfo().Config
	cc.AckWait = time.Hour
	_, err = js.UpdateConsumer(t.Context(), contract.StreamRaw, cc)
	require.NoError(t, err)
	d := Doctor{Plan: topology.Plan(bustest.Options(topology.Options{}))}
	d.topology(context.WithoutCancel(t.Context()), js)
	require.Equal(t, []Check{
		{"streams", Fail, "stream LLM_RAW: duplicate_window is 1s, planned is 10m0s", planAdvice},
		{"streams", Fail, "consumer LLM_RAW/ingest-high: ack_wait is 1h0m0s, planned is 30s", planAdvice},
	}, d.checks)
}
