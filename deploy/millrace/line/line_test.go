package line_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/jobspy/millrace/deploy/millrace/line"
	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const waitFor = time.Minute

// start runs the whole line in this process, on a real broker and a store in memory.
func start(t *testing.T, b *bus.JetStream, vars map[string]string) store.Store {
	t.Helper()
	s := store.NewMemory(time.Now)
	for _, bucket := range contract.Buckets() {
		_, err := s.EnsureBucket(t.Context(), bucket)
		require.NoError(t, err)
	}
	all := map[string]string{"SOURCE_GREENHOUSE_URL": "https://unreachable.invalid"}
	maps.Copy(all, vars)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	shared := stage.Shared{
		Vars: all, Bus: b, Store: s, Metrics: stage.NewMetrics(prometheus.NewRegistry(), contract.Stages()...),
		Process: &stage.Process{}, Clock: time.Now, Log: zerolog.Nop(),
	}
	for _, d := range line.Stages() {
		r, err := d.Runner(t.Context(), shared)
		require.NoError(t, err)
		running.Go(func() {
			if err := r.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { cancel(); running.Wait() })
	return s
}

// ends counts the terminal records and dead letters of each file_id.
func ends(t *testing.T, b *bus.JetStream) (completed, dead map[string]int) {
	t.Helper()
	count := func(stream string) map[string]int {
		n := map[string]int{}
		for m, err := range b.Scan(t.Context(), stream, "", 0) {
			require.NoError(t, err)
			n[m.Header[contract.HeaderFileID]]++
		}
		return n
	}
	return count(contract.StreamCompleted), count(contract.StreamDLQ)
}

func TestAFullQueueRefusesTheProducerAndLosesNothing(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{})
	raw, err := b.JetStream().Stream(t.Context(), contract.StreamRaw)
	require.NoError(t, err)
	small := raw.CachedInfo().Config
	small.MaxBytes = 4 << 10
	_, err = b.JetStream().UpdateStream(t.Context(), small)
	require.NoError(t, err)
	var accepted []string
	refused := 0
	for i := range 60 {
		id := fmt.Sprintf("full-%d", i)
		_, err := b.Publish(t.Context(), bus.Message{
			Subject: "llm.raw.job_extraction.openai", Header: bus.Header{contract.HeaderFileID: id},
			Body: []byte(`{"jobs":[{"title":"Go developer"}]}`),
		})
		if errors.Is(err, bus.ErrFull) {
			refused++
			continue
		}
		require.NoError(t, err)
		accepted = append(accepted, id)
	}
	require.NotEmpty(t, accepted)
	require.NotZero(t, refused)

	start(t, b, nil)
	require.Eventually(t, func() bool {
		completed, _ := ends(t, b)
		return len(completed) == len(accepted)
	}, waitFor, 20*time.Millisecond)
	completed, dead := ends(t, b)
	require.Empty(t, dead)
	for _, id := range accepted {
		require.Equal(t, 1, completed[id], id)
	}
}

func TestAnIntentCompletesWithoutInternet(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{})
	start(t, b, nil)
	_, err := b.Publish(t.Context(), bus.Message{
		Subject: "llm.raw.intent_analysis.openai", Header: bus.Header{contract.HeaderFileID: "i1"},
		Body: []byte(`{"metadata":{"user_tier":"premium"},"content":{"intent":{"is_job_related":true,"job_title":"Go developer","location":"Sydney"}}}`),
	})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		completed, _ := ends(t, b)
		return completed["i1"] == 1
	}, waitFor, 10*time.Millisecond)
	for m, err := range b.Scan(t.Context(), contract.StreamCompleted, "", 0) {
		require.NoError(t, err)
		require.Contains(t, string(m.Body), `"status":"unreachable"`)
		require.Contains(t, string(m.Body), `"outcome":"degraded"`)
	}
}
