package validate_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stagetest"
)

// A document of nothing but violations costs the most; what it costs must stay within what
// the comment on MAX_JSON_VALUES says.
// It does not run beside others, whose memory it would count.
func TestHostileDocumentCostsWhatTheLimitSays(t *testing.T) { //nolint:paralleltest // see above
	h := build(t, nil)
	const values = 100_000
	content := codec.Value(`{"jobs":[` + strings.Repeat("0,", values-1) + `0]}`)
	in, err := stagetest.Input(stagetest.Envelope(t, "job_extraction", content), nil)
	require.NoError(t, err)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)

	_, err = h.Handle(t.Context(), in)

	runtime.ReadMemStats(&after)
	require.Equal(t, contract.ReasonSchema, fault.Of(err).Reason)
	require.Less(t, len(err.Error()), 4<<10)
	perValue := (after.TotalAlloc - before.TotalAlloc) / values
	t.Logf("%d bytes allocated for each of %d values", perValue, values)
	require.Less(t, perValue, uint64(2048))
}

// Schema checks must stay linear: ten times the document is not much more than ten times the work.
func BenchmarkHandle(b *testing.B) {
	h := build(b, nil)
	for name, jobs := range map[string]int{"one job": 1, "1000 jobs": 1000} {
		job := `{"title":"Platform Engineer","company":"Harbour Analytics","location":"Melbourne VIC","salary":null,"description":"` +
			strings.Repeat("Runs the platform. ", 100) + `","skills":["a","b",{"name":"c"}]}`
		content := codec.Value(`{"jobs":[` + strings.TrimSuffix(strings.Repeat(job+",", jobs), ",") + `]}`)
		in, err := stagetest.Input(stagetest.Envelope(b, "job_extraction", content), nil)
		require.NoError(b, err)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				_, err := h.Handle(b.Context(), in)
				require.NoError(b, err)
			}
		})
	}
}
