//go:build integration

package chaos

import (
	"cmp"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// tool returns what an environment variable names; without it the test is skipped.
func tool(t *testing.T, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Skipf("SKIPPED: %s names nothing (make test-integration and make chaos set it)", variable)
	}
	_, err := os.Stat(path)
	require.NoError(t, err)
	return path
}

// config is that of a run with the programs that the environment names.
func config(t *testing.T) Config {
	t.Helper()
	return Config{
		Bin: tool(t, "CHAOS_BIN"), NATS: tool(t, "NATS_SERVER_BIN"), MinIO: tool(t, "MINIO_BIN"),
		Before: earlier(),
		Dir:    dir(t), Env: []string{"STORE_VIEWS=" + cmp.Or(os.Getenv("STORE_VIEWS"), "by_date")}, Out: t.Output(),
	}
}

// earlier returns the folder of the programs of the release before, empty where there are
// none.
func earlier() string {
	path := os.Getenv("CHAOS_BEFORE")
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// dir returns the folder of a run. It is kept where CHAOS_KEEP is set and the run failed.
func dir(t *testing.T) string {
	t.Helper()
	d, err := os.MkdirTemp(os.Getenv("CHAOS_KEEP"), "chaos-") //nolint:usetesting // it may outlive the test
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("CHAOS_KEEP") != "" {
			t.Logf("logs are kept in %s", d)
			return
		}
		require.NoError(t, os.RemoveAll(d))
	})
	return d
}

// fillable reports whether there is memory for disks that can be filled, and says so where
// not.
func fillable(t *testing.T, last time.Duration, rate float64) bool {
	t.Helper()
	need := disksFor(&Plan{Disks: true, For: last}, rate)
	if free := available(t); free < need {
		t.Logf("SKIPPED: no disk is filled, for it would be in memory, and may need %d MB of %d MB", need>>20, free>>20)
		return false
	}
	d := t.TempDir()
	if err := unix.Mount("tmpfs", d, "tmpfs", 0, "size=1048576"); err != nil {
		t.Logf("SKIPPED: no disk is filled, for none can be mounted: %v", err)
		return false
	}
	require.NoError(t, unix.Unmount(d, unix.MNT_DETACH))
	return true
}

// available returns how many bytes of memory may be used.
func available(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/meminfo")
	require.NoError(t, err)
	_, after, _ := strings.Cut(string(text), "MemAvailable:")
	fields := strings.Fields(after)
	require.NotEmpty(t, fields, "MemAvailable of /proc/meminfo")
	kilobytes, err := strconv.ParseInt(fields[0], 10, 64)
	require.NoError(t, err)
	return kilobytes << 10
}

// demand runs and demands that every invariant holds.
func demand(t *testing.T, s Settings) {
	t.Helper()
	r, err := Run(t.Context(), s)
	if r != nil {
		r.Print(t.Output())
	}
	if err != nil || !r.OK() {
		t.Errorf("seed %d", s.Seed)
		if r != nil {
			name, kept := r.Keep(filepath.Join(cmp.Or(os.Getenv("CHAOS_SEEDS"), os.TempDir()), "millrace-chaos")) //nolint:usetesting // it outlives the test
			require.NoError(t, kept)
			t.Logf("the seed is kept in %s", name)
		}
	}
	require.NoError(t, err)
	require.True(t, r.OK(), "an invariant is broken")
}

// seed is the one that the environment names, or else.
func seed(t *testing.T, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv("CHAOS_SEED")
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	require.NoError(t, err, "CHAOS_SEED")
	return n
}

func TestNothingIsLostInAMinuteOfFaults(t *testing.T) {
	t.Parallel()
	for _, topology := range []Topology{Stages, Up} {
		t.Run(string(topology), func(t *testing.T) { //nolint:paralleltest // one after the other, beside the other tests
			const last, rate = 25 * time.Second, 15
			demand(t, Settings{
				Config: config(t), Rate: rate, Replay: true,
				Plan: Plan{
					Seed: seed(t, 1), For: last, Topology: topology, Gap: time.Second, Disks: fillable(t, last, rate),
					Only: []Kind{
						KillStage, KillAtPoint, KillBroker, KillStore, BrokerReset, BrokerSilent,
						StoreReset, StoreError, StoreTruncated, StoreLate, Overload, KillLine,
						BrokerLate, Shuffled, Repeated,
					},
				},
			})
		})
	}
}

// TestChaos is make chaos: as long, as hard and with the seed that the environment says.
func TestChaos(t *testing.T) { //nolint:paralleltest // it has the whole machine under load
	last, err := time.ParseDuration(cmp.Or(os.Getenv("CHAOS_FOR"), "0s"))
	require.NoError(t, err, "CHAOS_FOR")
	if last <= 0 {
		t.Skip("SKIPPED: CHAOS_FOR does not say for how long (make chaos sets it)")
	}
	rate, err := strconv.ParseFloat(cmp.Or(os.Getenv("CHAOS_RATE"), "20"), 64)
	require.NoError(t, err, "CHAOS_RATE")
	gap, err := time.ParseDuration(cmp.Or(os.Getenv("CHAOS_GAP"), "0s"))
	require.NoError(t, err, "CHAOS_GAP")
	p := Plan{
		Seed: seed(t, rand.Uint64()>>1), //nolint:gosec // another one each time
		For:  last, Topology: Topology(cmp.Or(os.Getenv("CHAOS_TOPOLOGY"), string(Stages))), Gap: gap,
	}
	p.Disks = fillable(t, last, rate)
	c := config(t)
	if c.Before == "" {
		t.Log("SKIPPED: no stage of the release before runs beside the others: CHAOS_BEFORE names no programs (make build/before)")
	}
	p.Earlier = c.Before != ""
	for kind := range strings.SplitSeq(os.Getenv("CHAOS_ONLY"), ",") {
		if kind != "" {
			p.Only = append(p.Only, Kind(kind))
		}
	}
	demand(t, Settings{Config: c, Plan: p, Rate: rate, Replay: true})
}
