package bench

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func reportOf(documents int, rate, p99 float64) Report {
	r := Report{
		Params: Params{Documents: documents, Rates: "[10]"},
		Line:   &LineResult{Rate: rate}, Latency: []LatencyResult{{Rate: 10, Quantiles: Quantiles{P99: p99}}},
	}
	r.Driver.set(false, 2*rate)
	r.settle()
	return r
}

func TestARunIsComparedWithTheLastOnesLikeIt(t *testing.T) {
	t.Parallel()
	earlier := []Report{reportOf(100, 9999, 1), reportOf(100, 9999, 1)} // too long ago
	for _, rate := range []float64{171, 160, 180, 171, 165, 175, 171} {
		earlier = append(earlier, reportOf(100, rate, 20))
	}
	earlier = append(earlier, reportOf(200, 5, 5)) // another load
	now := reportOf(100, 143, 10)
	changes := now.Compare(earlier)
	require.Len(t, changes, 4)
	require.Equal(t, "regression: rate 143 vs 171, -16 % (median of 7)", changes[0].String())
	require.Equal(t, "change: line / driver 0.5 vs 0.5, +0 % (median of 7)", changes[1].String())
	require.Equal(t, "regression: limit of the driver 286 vs 342, -16 % (median of 7)", changes[2].String())
	require.Equal(t, "change: p99 at 10/s 10 vs 20, -50 % (median of 7)", changes[3].String())
	require.False(t, TooSlow(changes, 17))
	require.True(t, TooSlow(changes, 15))

	require.Empty(t, now.Compare(nil))
	require.False(t, TooSlow(nil, 1))
	slow := reportOf(100, 171, 40)
	require.Equal(t, "regression: p99 at 10/s 40 vs 20, +100 % (median of 7)", slow.Compare(earlier)[3].String())
}

func TestAHistoryIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "history.jsonl")
	all, err := ReadHistory(path)
	require.NoError(t, err)
	require.Empty(t, all)
	a, b := reportOf(100, 1, 2), reportOf(200, 3, 4)
	require.NoError(t, a.Append(path))
	require.NoError(t, b.Append(path))
	all, err = ReadHistory(path)
	require.NoError(t, err)
	require.Equal(t, []Report{a, b}, all)

	require.NoError(t, os.WriteFile(path, []byte("{}\nx\n"), 0o600))
	_, err = ReadHistory(path)
	require.ErrorContains(t, err, "read line 2 of "+path)
}

func TestProblemsAreToldApart(t *testing.T) {
	t.Parallel()
	ok := reportOf(100, 1, 1)
	ok.Line.Emptied = true
	require.Empty(t, ok.Problems())
	bad := Report{
		Line:    &LineResult{Dead: 1, Missing: 2, Check: &Checked{NoRecord: 3, TwoRecords: 4, Unreadable: 5, Unequal: 6}},
		Latency: []LatencyResult{{Rate: 10, Dead: 7, Missing: 8, Unreadable: 9}},
	}
	require.Equal(t, []string{
		"1 documents ended as dead letters", "2 documents did not end in time", "the queues did not become empty in time",
		"3 documents have no terminal record", "4 documents have two terminal records",
		"5 objects that records name cannot be read", "6 raw objects are not what was sent",
		"7 documents at 10/s ended as dead letters", "8 documents at 10/s did not end in time",
		"9 objects at 10/s could not be read when the record had come",
	}, bad.Problems())
}
