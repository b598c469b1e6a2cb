package topology_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/topology"
)

// overlap reports whether a subject can match both filters.
func overlap(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(x), len(y)) {
		switch {
		case i == len(x) || i == len(y):
			return false
		case x[i] == ">" || y[i] == ">":
			return true
		case x[i] != y[i] && x[i] != "*" && y[i] != "*":
			return false
		}
	}
	return true
}

func TestNoSubjectHasTwoStreamsAndNoWorkTwoConsumers(t *testing.T) {
	t.Parallel()
	require.True(t, overlap("a.*", "a.b"))
	require.False(t, overlap("a.*", "a.*.b"))
	type owned struct{ owner, subject string }
	disjoint := func(all []owned) {
		for i, a := range all {
			for _, b := range all[:i] {
				require.False(t, overlap(a.subject, b.subject), "%v and %v", a, b)
			}
		}
	}
	var subjects []owned
	names := make(map[string]bool)
	for _, s := range topology.Plan(topology.Options{}).Streams {
		require.False(t, names[s.Name], s.Name)
		names[s.Name] = true
		require.NotEmpty(t, s.Description)
		for _, subject := range s.Subjects {
			subjects = append(subjects, owned{s.Name, subject})
		}
		var filters []owned
		for _, c := range s.Consumers {
			require.NotEmpty(t, c.Description)
			for _, f := range c.Filters {
				filters = append(filters, owned{c.Name, f})
			}
		}
		disjoint(filters)
	}
	disjoint(subjects)
}

func TestAllLimitsFitTheDisk(t *testing.T) {
	t.Parallel()
	const disk = 1 << 30
	plan := topology.Plan(topology.Options{Disk: disk})
	var sum int64
	for _, s := range plan.Streams {
		switch {
		case s.Name == contract.StreamRetry:
			require.Zero(t, s.MaxBytes+s.MaxMsgs+int64(s.MaxAge), "a limit would drop schedules")
			require.False(t, s.DiscardNew)
		case !s.InMemory:
			require.Positive(t, s.MaxBytes, s.Name)
			sum += s.MaxBytes
		}
		if s.WorkQueue && s.Name != contract.StreamRetry || s.Name == contract.StreamDLQ {
			require.True(t, s.DiscardNew, s.Name)
			require.Zero(t, s.MaxAge, s.Name)
		}
	}
	for _, b := range plan.Buckets {
		require.Positive(t, b.MaxBytes, b.Name)
		sum += b.MaxBytes
	}
	require.Less(t, sum, int64(disk*9/10), "LLM_RETRY needs room too")
}

func TestEveryStageHasItsConsumers(t *testing.T) {
	t.Parallel()
	have := make(map[string]bool)
	for _, s := range topology.Plan(topology.Options{}).Streams {
		for _, c := range s.Consumers {
			have[s.Name+"/"+c.Name] = true
		}
	}
	for _, s := range contract.Stages() {
		for _, l := range contract.Lanes() {
			require.True(t, have[contract.StageStream(s)+"/"+contract.Consumer(s, l)])
		}
		require.True(t, have[contract.StreamRetry+"/"+contract.DueConsumer(s)])
		require.True(t, have[contract.StreamAdvisory+"/"+contract.AdvisoryConsumer(s)])
	}
	require.True(t, have["LLM_ROUTE/route-batch"])
	require.Len(t, have, 8*5+1)
}

// apply applies the topology of o and returns what was not unchanged.
func apply(t *testing.T, js jetstream.JetStream, o topology.Options, dry bool) []topology.Change {
	t.Helper()
	changes, err := topology.Apply(t.Context(), js, topology.Plan(bustest.Options(o)), dry)
	require.NoError(t, err)
	require.Len(t, changes, 17+41+4+1)
	return slices.DeleteFunc(changes, func(c topology.Change) bool { return c.Action == topology.Unchanged })
}

func TestApplyIsIdempotentAndTellsTheDifference(t *testing.T) {
	t.Parallel()
	js := bustest.Connect(t, bustest.Server(t)).JetStream()
	check := func(o topology.Options) []topology.Finding {
		found, err := topology.Check(t.Context(), js, topology.Plan(bustest.Options(o)))
		require.NoError(t, err)
		return found
	}

	for _, c := range apply(t, js, topology.Options{}, true) {
		require.Equal(t, topology.Created, c.Action)
	}
	_, err := js.Stream(t.Context(), contract.StreamDLQ)
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound, "a dry run changes nothing")
	require.True(t, check(topology.Options{})[0].Missing)

	start := time.Now()
	require.NotEmpty(t, apply(t, js, topology.Options{}, false))
	require.Less(t, time.Since(start), 5*time.Second, "usually a tenth of a second")
	require.Empty(t, apply(t, js, topology.Options{}, false))
	require.Empty(t, check(topology.Options{}))

	longer := topology.Options{AckWait: time.Minute, ArchiveEvery: time.Hour}
	found := check(longer)
	require.Len(t, found, 41+1)
	require.True(t, found[0].Grave)
	require.Equal(t, "consumer LLM_RAW/ingest-high: ack_wait is 30s, planned is 1m0s", found[0].String())
	changes := apply(t, js, longer, false)
	require.Len(t, changes, 41+1)
	require.Equal(t, topology.Change{
		Kind: topology.KindConsumer, Name: "LLM_RAW/ingest-high", Action: topology.Updated,
		Fields: []topology.Field{{Name: "ack_wait", Have: "30s", Want: "1m0s", Grave: true}},
	}, changes[0])
	require.Equal(t, topology.KindTimer, changes[41].Kind)
	require.Empty(t, apply(t, js, longer, false))
}

func TestApplyLeavesAloneWhatIsNotPlanned(t *testing.T) {
	t.Parallel()
	js := bustest.Connect(t, bustest.Server(t)).JetStream()
	apply(t, js, topology.Options{}, false)
	dlq, err := js.Stream(t.Context(), contract.StreamDLQ)
	require.NoError(t, err)
	c := dlq.CachedInfo().Config
	c.Compression, c.MaxAge, c.Metadata["ours"] = jetstream.S2Compression, time.Hour, "kept"
	_, err = js.UpdateStream(t.Context(), c)
	require.NoError(t, err)
	_, err = js.CreateConsumer(t.Context(), contract.StreamDLQ, jetstream.ConsumerConfig{Durable: "theirs"})
	require.NoError(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "THEIRS", Subjects: []string{"theirs"}})
	require.NoError(t, err)

	changes := apply(t, js, topology.Options{}, false)
	require.Len(t, changes, 1)
	require.Equal(t, []topology.Field{{Name: "max_age", Have: "1h0m0s", Want: "none", Grave: true}}, changes[0].Fields)
	dlq, err = js.Stream(t.Context(), contract.StreamDLQ)
	require.NoError(t, err)
	require.Equal(t, jetstream.S2Compression, dlq.CachedInfo().Config.Compression)
	require.Equal(t, "kept", dlq.CachedInfo().Config.Metadata["ours"])
	require.Zero(t, dlq.CachedInfo().Config.MaxAge)
	_, err = js.Consumer(t.Context(), contract.StreamDLQ, "theirs")
	require.NoError(t, err)
	_, err = js.Stream(t.Context(), "THEIRS")
	require.NoError(t, err)
}

func TestApplySaysWhatCannotBeChanged(t *testing.T) {
	t.Parallel()
	js := bustest.Connect(t, bustest.Server(t)).JetStream()
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: contract.StageStream(contract.Validate), Subjects: []string{"llm.validate.>"},
	})
	require.NoError(t, err)
	_, err = topology.Apply(t.Context(), js, topology.Plan(bustest.Options(topology.Options{})), false)
	require.ErrorContains(t, err, `update stream "LLM_VALIDATE"`)
	require.ErrorContains(t, err, "retention Limits -> WorkQueue")
}

func TestApplySaysWhenThePlanIsTooLarge(t *testing.T) {
	t.Parallel()
	js := bustest.Connect(t, bustest.Server(t)).JetStream()
	_, err := topology.Apply(t.Context(), js, topology.Plan(topology.Options{Disk: 1 << 50}), false)
	require.ErrorContains(t, err, "plan them smaller")
}

func TestApplyKeepsTheTimerRunning(t *testing.T) {
	t.Parallel()
	b := bustest.Connect(t, bustest.Server(t))
	apply(t, b.JetStream(), topology.Options{}, false)
	subject := contract.CronSubject(contract.CronArchive)
	first, err := b.Last(t.Context(), contract.StreamRetry, subject)
	require.NoError(t, err)
	require.Equal(t, "@every 1m0s", first.Header["Nats-Schedule"])
	apply(t, b.JetStream(), topology.Options{}, false)
	second, err := b.Last(t.Context(), contract.StreamRetry, subject)
	require.NoError(t, err)
	require.Equal(t, first.Seq, second.Seq)
	_, err = b.JetStream().PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: []byte("x"), Header: nats.Header{
		"Nats-Schedule": {"@every 1h"}, "Nats-Schedule-Target": {"llm.due.archive.low"},
	}})
	require.NoError(t, err)
	changes := apply(t, b.JetStream(), topology.Options{}, false)
	require.Len(t, changes, 1)
	require.Equal(t, topology.Updated, changes[0].Action)
}
