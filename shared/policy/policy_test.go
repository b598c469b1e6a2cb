package policy_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/jobspy/millrace/deploy/config"
	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheSeedHasEveryFieldAndFitsItsSchema(t *testing.T) {
	t.Parallel()
	seed := policy.Seed(nil)
	parsed, err := policy.ParseStorage(config.Storage(), policy.Storage{})
	require.NoError(t, err)
	require.Equal(t, seed, parsed, "nothing is left to a default")
	require.Equal(t, contract.Views(), seed.Views)
	require.Equal(t, contract.Classes(), seed.Classes)
	for _, s := range []policy.Span{seed.Retention.Raw, seed.Retention.Results, seed.Retention.Daily, seed.Retention.Monthly} {
		require.Equal(t, policy.Keep, s)
	}
	text, err := seed.Text()
	require.NoError(t, err)
	again, err := policy.ParseStorage(text, policy.Storage{})
	require.NoError(t, err)
	require.Equal(t, seed, again, "what is shown can be set")
	require.Equal(t, []contract.View{contract.ByProvider}, policy.Seed([]contract.View{contract.ByProvider}).Views)
}

func TestWhatIsLeftOutHasItsDefault(t *testing.T) {
	t.Parallel()
	seed := policy.Seed([]contract.View{contract.ByTask})
	got, err := policy.ParseStorage([]byte(`{"classes":["validated","raw"],"retention":{"raw":"30d"},"buckets":{"llm-raw":"acme-raw"}}`), seed)
	require.NoError(t, err)
	require.Equal(t, "by_task_type;raw,validated", got.Layout().String())
	require.Equal(t, policy.Span("30d"), got.Retention.Raw)
	require.Equal(t, policy.Span("24h"), got.Retention.Claims)
	require.Equal(t, "acme-raw", got.Buckets.Physical(contract.BucketRaw))
	require.Equal(t, policy.Keep, seed.Retention.Raw, "the seed stays as it is")
	require.Empty(t, seed.Buckets)
}

func TestABadValueIsRefusedWithFieldAndReason(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, value string
		want        []string // a part of each violation
	}{
		{"no JSON", `{"views":`, []string{"the value: "}},
		{"no object", `[]`, []string{"the value: got array, want object"}},
		{"a field twice", `{"views":["by_date"],"views":["by_date"]}`, []string{"duplicate"}},
		{"a field that is none", `{"view":["by_date"]}`, []string{"'view' not allowed"}},
		{"no view at all", `{"views":[]}`, []string{"/views: minItems"}},
		{"an unknown view", `{"views":["by_date","by_moon"]}`, []string{"/views/1: value must be one of 'by_date'"}},
		{"a view twice", `{"views":["by_date","by_date"]}`, []string{"/views: items at 0 and 1 are equal"}},
		{"views that are no list", `{"views":"by_date"}`, []string{"/views: got string, want array"}},
		{"raw is not kept", `{"classes":["validated"]}`, []string{"/classes: raw is always kept"}},
		{"an unknown class", `{"classes":["raw","boiled"]}`, []string{"/classes/1: value must be one of"}},
		{"a bucket that is none of ours", `{"buckets":{"other":"x-y-z"}}`, []string{"/buckets: additional properties 'other'"}},
		{"a name no store takes", `{"buckets":{"llm-raw":"Raw_Data"}}`, []string{"/buckets/llm-raw: 'Raw_Data' does not match pattern"}},
		{"two buckets in one", `{"buckets":{"llm-raw":"one","llm-dlq":"one"}}`, []string{`/buckets/llm-dlq: "one" is the name of llm-raw already`}},
		{"the name of another bucket", `{"buckets":{"llm-raw":"llm-dlq","llm-dlq":"dead"}}`, []string{`/buckets/llm-raw: "llm-dlq" is what another bucket is called here`}},
		{"an unknown compression", `{"archive":{"compression":"gzip"}}`, []string{"/archive/compression: value must be one of"}},
		{"a span without a unit", `{"retention":{"raw":"30"}}`, []string{"/retention/raw: '30' does not match pattern"}},
		{"no time at all", `{"retention":{"inbox":"0h"}}`, []string{"/retention/inbox: '0h' does not match"}},
		{"a span of something else", `{"retention":{"logs":"3d"}}`, []string{"/retention: additional properties 'logs'"}},
		{"a number of seconds", `{"retention":{"raw":3600}}`, []string{"/retention/raw: got number, want string"}},
		{"a hold without a prefix", `{"legal_hold":["llm-raw"]}`, []string{"/legal_hold/0: 'llm-raw' does not match"}},
		{"a hold on no bucket", `{"legal_hold":["llm-raw/by_date/2025","raw/x"]}`, []string{`/legal_hold/1: "raw/x" is in no bucket`}},
		{"several things", `{"views":[],"retention":{"raw":"x"}}`, []string{"/retention/raw: ", "/views: "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := policy.ParseStorage([]byte(tt.value), policy.Seed(nil))
			refused, ok := errors.AsType[*policy.RefusedError](err)
			require.True(t, ok, "%v", err)
			require.Len(t, refused.Violations, len(tt.want), err)
			for i, want := range tt.want {
				require.Contains(t, refused.Violations[i].String(), want)
			}
		})
	}
}

func TestHoldsMayNameABucketEitherWay(t *testing.T) {
	t.Parallel()
	_, err := policy.ParseStorage([]byte(`{"buckets":{"llm-raw":"acme-raw"},"legal_hold":["acme-raw/by_date/","llm-raw/by_date/2025"]}`), policy.Seed(nil))
	require.NoError(t, err)
}

func TestSpans(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for s, want := range map[policy.Span]time.Duration{"1h": time.Hour, "48h": 2 * day, "30d": 30 * day, "99999d": 99999 * day} {
		d, keep := s.Duration()
		require.False(t, keep, s)
		require.Equal(t, want, d, s)
	}
	_, keep := policy.Keep.Duration()
	require.True(t, keep)
}

// memory returns a broker of this process and its bucket of policies.
func memory(t *testing.T) (*bus.Memory, bus.KV) {
	t.Helper()
	plan := topology.Plan(topology.Options{})
	b := bus.NewMemory(nil, plan.Buckets)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	kv, err := b.KV(t.Context(), contract.KVConfig)
	require.NoError(t, err)
	return b, kv
}

func TestABadChangeIsRefusedAndTheOldOneStays(t *testing.T) {
	t.Parallel()
	b, kv := memory(t)
	reg, log := prometheus.NewRegistry(), &bytes.Buffer{}
	w, err := policy.Watch(t.Context(), policy.Settings{
		Bus: b, Seed: policy.Seed([]contract.View{contract.ByProvider}), Metrics: reg, Log: zerolog.New(zerolog.SyncWriter(log)),
	})
	require.NoError(t, err)
	defer w.Stop()
	require.Equal(t, []contract.View{contract.ByProvider}, w.Storage().Views, "there is no key yet")

	put := func(value string) {
		_, err := kv.Put(t.Context(), policy.KeyStorage, []byte(value), 0)
		require.NoError(t, err)
	}
	numbers := func(taken, refused string) func() bool {
		want := `
# HELP millrace_policy_changes_total Values of a policy that were read, by whether they took effect.
# TYPE millrace_policy_changes_total counter
millrace_policy_changes_total{outcome="refused",policy="storage"} ` + refused + `
millrace_policy_changes_total{outcome="taken",policy="storage"} ` + taken + "\n"
		return func() bool { return testutil.GatherAndCompare(reg, strings.NewReader(want)) == nil }
	}
	const patience, poll = 10 * time.Second, time.Millisecond
	put(`{"views":["by_date"]}`)
	require.Eventually(t, numbers("1", "0"), patience, poll)
	require.Equal(t, []contract.View{contract.ByDate}, w.Storage().Views)
	put(`{"views":["by_moon"]}`)
	require.Eventually(t, numbers("1", "1"), patience, poll)
	require.Equal(t, []contract.View{contract.ByDate}, w.Storage().Views)
	require.NoError(t, kv.Delete(t.Context(), policy.KeyStorage))
	put(`{"views":["by_task_type"]}`)
	require.Eventually(t, numbers("2", "1"), patience, poll)
	require.Equal(t, []contract.View{contract.ByTask}, w.Storage().Views)
	w.Stop()
	require.Contains(t, log.String(), `"field":"/views/0"`)
	require.Contains(t, log.String(), `"level":"error"`)
}

func TestPlantReadAndWrite(t *testing.T) {
	t.Parallel()
	b, kv := memory(t)
	seed := policy.Seed([]contract.View{contract.ByDate})
	kept, err := policy.Read(t.Context(), b, seed)
	require.NoError(t, err)
	require.Equal(t, policy.Kept{Storage: seed}, kept)

	planted, err := policy.Plant(t.Context(), b, seed)
	require.NoError(t, err)
	require.True(t, planted)
	planted, err = policy.Plant(t.Context(), b, policy.Seed(nil))
	require.NoError(t, err)
	require.False(t, planted)
	kept, err = policy.Read(t.Context(), b, policy.Seed(nil))
	require.NoError(t, err)
	require.Equal(t, seed, kept.Storage, "what was there before counts")

	next := seed
	next.Classes = []contract.Class{contract.ClassRaw}
	require.NoError(t, policy.Write(t.Context(), b, next, kept.Revision))
	require.ErrorIs(t, policy.Write(t.Context(), b, seed, kept.Revision), bus.ErrRevision, "somebody else was quicker")

	_, err = kv.Put(t.Context(), policy.KeyStorage, []byte("nonsense"), 0)
	require.NoError(t, err)
	kept, err = policy.Read(t.Context(), b, seed)
	require.NoError(t, err)
	require.Error(t, kept.Refused)
	require.Equal(t, next, kept.Storage, "the last good one")
	w, err := policy.Watch(t.Context(), policy.Settings{Bus: b, Seed: seed, Log: zerolog.Nop()})
	require.NoError(t, err)
	defer w.Stop()
	require.Equal(t, next, w.Storage(), "also for a process that starts now")
	require.NoError(t, policy.Write(t.Context(), b, next, kept.Revision), "what is bad can be replaced")

	none := bus.NewMemory(nil, nil)
	t.Cleanup(func() { require.NoError(t, none.Close()) })
	kept, err = policy.Read(t.Context(), none, seed)
	require.NoError(t, err, "the broker is not provisioned yet")
	require.Equal(t, seed, kept.Storage)
}
