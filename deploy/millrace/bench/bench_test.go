package bench_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/deploy/millrace/bench"
	"github.com/jobspy/millrace/deploy/millrace/up"
	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

// TestARunOnALine is one test because the embedded store allows one line in a process.
func TestARunOnALine(t *testing.T) {
	t.Parallel()
	err := up.Run(t.Context(), up.Config{
		Dir: t.TempDir(), NATSAddr: "127.0.0.1:0", S3Addr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0",
		Logs: io.Discard, Level: zerolog.WarnLevel, Console: zerolog.ErrorLevel,
	}, func(_ context.Context, i *up.Instance) error {
		producer, err := bus.Connect(t.Context(), bus.Settings{URL: "nats://" + i.NATSAddr, Name: "bench", Log: zerolog.Nop()})
		require.NoError(t, err)
		l := &line{target: bench.Target{
			Bus: i.Bus, Producer: producer, Objects: i.Objects, Writer: i.Store, Embedded: true,
			PIDs: []int{os.Getpid()}, Host: bench.ThisHost(),
		}}
		t.Run("all figures are there", l.allFigures)
		t.Run("only objects that can be listed count", l.onlyListedCount)
		t.Run("archives that were there before stay", l.archivesStay)
		t.Run("a cancelled run leaves nothing", l.cancelled)
		t.Run("a line that has work is not measured", l.busy)
		require.NoError(t, producer.Close())
		return up.ErrEnough
	})
	require.NoError(t, err)
}

type line struct{ target bench.Target }

func config(phases ...bench.Phase) bench.Config {
	return bench.Config{
		Phases: phases, Documents: 40, Size: 2048, Seed: 1, Rates: []float64{20}, For: time.Second,
		BoundFor: 200 * time.Millisecond, Wait: 2 * time.Minute, Check: bench.CheckAll, Remove: true,
	}
}

func (l *line) allFigures(t *testing.T) { //nolint:paralleltest // the line is measured by one at a time
	archive := store.Ref{Bucket: contract.BucketArchive, Key: "daily/2025-01-27/made-meanwhile"}
	r, err := bench.Run(t.Context(), config(), l.target, func(string) {
		require.NoError(t, errors.Join(l.target.Objects.Put(t.Context(), store.Object{Ref: archive})...))
	})
	require.NoError(t, err)
	require.Empty(t, r.Problems())
	_, err = l.target.Objects.Stat(t.Context(), archive)
	require.ErrorIs(t, err, store.ErrNotFound)
	for name, limit := range map[string]bench.Limit{"broker": r.Broker, "store": r.Store, "driver": r.Driver, "publishes": r.Publishes} {
		require.Positive(t, limit.Before, name)
		require.Positive(t, limit.After, name)
		require.InDelta(t, (limit.Before+limit.After)/2, limit.Mean, 1e-9, name)
	}
	require.Equal(t, 40, r.Line.Documents)
	require.Positive(t, r.Line.Accepted)
	require.Positive(t, r.Line.Rate)
	require.GreaterOrEqual(t, r.Line.Completed, r.Line.Rate, "the last acknowledgement comes after the last record")
	require.Len(t, r.Line.Tenths, 10)
	require.True(t, r.Line.Emptied)
	require.Equal(t, &bench.Checked{Documents: 40, ReadBack: 40, Objects: 40 * 13}, r.Line.Check, "twelve objects and the result")
	require.Len(t, r.Line.Use, 1)
	require.Positive(t, r.Line.Use[0].RSS)

	require.InDelta(t, 12*r.Line.Rate/r.Store.Mean, r.Ratios.Store, 1e-9)
	require.InDelta(t, r.Line.Rate/r.Driver.Mean, r.Ratios.Driver, 1e-9)
	require.InDelta(t, r.Line.Accepted/r.Broker.Mean, r.Ratios.Accept, 1e-9)

	require.Len(t, r.Latency, 1)
	at := r.Latency[0]
	require.Equal(t, 20, at.N)
	require.Equal(t, 20*13, at.Objects)
	require.Positive(t, at.P50)
	require.LessOrEqual(t, at.P50, at.P99)

	var out bytes.Buffer
	require.NoError(t, r.Write(&out))
	for _, text := range []string{"line / store", "line / driver", "accept / broker", "sustained", "at 20/s", "260 of 260", "520 of 520"} {
		require.Contains(t, out.String(), text)
	}
	l.nothingLeft(t)
}

// nothingLeft proves that neither broker nor store have anything of a run.
func (l *line) nothingLeft(t *testing.T) {
	t.Helper()
	names := l.target.Bus.JetStream().StreamNames(t.Context())
	for name := range names.Name() {
		require.NotContains(t, name, "MILLRACE_BENCH_")
	}
	require.NoError(t, names.Err())
	for _, stream := range []string{contract.StreamCompleted, contract.StreamDLQ} {
		info, err := l.target.Bus.Info(t.Context(), stream)
		require.NoError(t, err)
		require.Empty(t, info.Consumers)
	}
	for _, bucket := range contract.Buckets() {
		for o, err := range l.target.Objects.List(t.Context(), bucket, "") {
			require.NoError(t, err)
			require.True(t, bucket == contract.BucketArchive || strings.HasPrefix(o.Key, "_probe/"), o.Ref.String())
		}
	}
}

// forgetful is a store that keeps one object of each call and reports success for all.
type forgetful struct{ store.Store }

func (f forgetful) Put(ctx context.Context, objects ...store.Object) []error {
	return f.Store.Put(ctx, objects[:1]...)
}

func (l *line) onlyListedCount(t *testing.T) { //nolint:paralleltest // as above
	target := l.target
	target.Objects = forgetful{target.Objects}
	r, err := bench.Run(t.Context(), config(bench.PhaseStore), target, nil)
	require.NoError(t, err)
	require.NotEmpty(t, r.Notes)
	found := regexp.MustCompile(`reported (\d+) objects and lists (\d+)`).FindStringSubmatch(r.Notes[0])
	require.NotEmpty(t, found, r.Notes[0])
	reported, err := strconv.Atoi(found[1])
	require.NoError(t, err)
	listed, err := strconv.Atoi(found[2])
	require.NoError(t, err)
	require.Equal(t, 12*listed, reported)
	l.nothingLeft(t)
}

func (l *line) archivesStay(t *testing.T) { //nolint:paralleltest // as above
	archive := store.Ref{Bucket: contract.BucketArchive, Key: "daily/2025-01-27/of-somebody"}
	require.NoError(t, errors.Join(l.target.Objects.Put(t.Context(), store.Object{Ref: archive})...))
	_, err := bench.Run(t.Context(), config(bench.PhaseLine), l.target, nil)
	require.NoError(t, err)
	_, err = l.target.Objects.Stat(t.Context(), archive)
	require.NoError(t, err)
	l.nothingLeft(t)
}

func (l *line) cancelled(t *testing.T) { //nolint:paralleltest // as above
	for _, phase := range []bench.Phase{bench.PhaseBroker, bench.PhaseStore, bench.PhaseDriver} {
		ctx, cancel := context.WithCancel(t.Context())
		c := config(phase)
		c.BoundFor = time.Minute
		target := l.target
		target.Objects = &trigger{Store: target.Objects, pull: cancel}
		target.Writer = &trigger{Store: target.Writer, pull: cancel}
		_, err := bench.Run(ctx, c, target, func(string) {
			if phase == bench.PhaseBroker {
				cancel()
			}
		})
		require.ErrorIs(t, err, context.Canceled, phase)
		l.nothingLeft(t)
	}
}

// trigger pulls when it has put objects.
type trigger struct {
	store.Store

	pull func()
}

func (p *trigger) Put(ctx context.Context, objects ...store.Object) []error {
	defer p.pull()
	return p.Store.Put(ctx, objects...)
}

func (l *line) busy(t *testing.T) { //nolint:paralleltest // as above
	// No consumer takes it, so it waits for ever.
	m := bus.Message{Subject: contract.StageRoot(contract.Validate) + ".nobody", Body: []byte("{}")}
	r, err := l.target.Bus.Publish(t.Context(), m)
	require.NoError(t, err)
	_, err = bench.Run(t.Context(), config(bench.PhaseLine), l.target, nil)
	require.ErrorIs(t, err, bench.ErrBusy)
	require.NoError(t, l.target.Bus.Delete(t.Context(), r.Stream, r.Seq))
	l.nothingLeft(t)
}

func TestAConfigSaysAllThatIsWrong(t *testing.T) {
	t.Parallel()
	require.NoError(t, config().Validate())
	err := bench.Config{Phases: []bench.Phase{"lunch"}, Documents: 1, Rates: []float64{-1}, Check: "some"}.Validate()
	for _, text := range []string{"1 documents", "a size of 0", "the latency", "a limit", "the end", `check "some"`, "a rate of -1", `phase "lunch"`} {
		require.ErrorContains(t, err, text)
	}
}
