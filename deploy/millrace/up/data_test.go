package up_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
)

// recorded is one record of the recorded model outputs, as far as it is read.
type recorded struct {
	Provider string      `json:"provider"`
	Output   codec.Value `json:"output"`
	Expected codec.Value `json:"expected"`
	Body     codec.Value `json:"body"`
	SSE      string      `json:"sse"`
	Raw      string      `json:"raw"`
}

// sent returns the bytes that the record's producer sent.
func (r recorded) sent() []byte {
	for _, v := range []codec.Value{r.Output, r.Expected, r.Body} {
		if len(v) > 0 {
			return v
		}
	}
	if r.SSE != "" {
		return []byte(r.SSE)
	}
	return []byte(r.Raw)
}

// TestEveryRecordedOutputEndsOnce sends what models really wrote through the line: each
// ends exactly once, and none stays.
func TestEveryRecordedOutputEndsOnce(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("TEST_DATA")
	if dir == "" {
		t.Skip("SKIPPED: TEST_DATA does not name the folder with recorded data")
	}
	ids := map[string]bool{}
	for _, name := range []string{"job-extraction.jsonl", "provider-envelopes.jsonl", "llm-raw-bfcl.jsonl"} {
		f, err := os.Open(filepath.Join(dir, "llm", name))
		require.NoError(t, err)
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 16<<20)
		for i := 0; lines.Scan(); i++ {
			var r recorded
			require.NoError(t, codec.Unmarshal(lines.Bytes(), &r))
			provider := r.Provider
			if !doc.ValidProvider(provider) {
				provider = "openai"
			}
			id := fmt.Sprintf("recorded-%s-%d", name[:3], i)
			ids[publish(t, "job_extraction."+provider, id, string(r.sent()), nil)] = true
		}
		require.NoError(t, lines.Err())
		require.NoError(t, f.Close())
	}
	require.NotEmpty(t, ids)
	ends := map[string]map[string]int{}
	require.Eventually(t, func() bool {
		ended := 0
		for _, stream := range []string{contract.StreamCompleted, contract.StreamDLQ} {
			ends[stream] = count(t, stream, ids)
			ended += len(ends[stream])
		}
		return ended >= len(ids)
	}, waitFor, 20*poll, "all end")
	completed, dead := ends[contract.StreamCompleted], ends[contract.StreamDLQ]
	require.Equal(t, len(ids), len(completed)+len(dead), "sent = completed + dead-lettered")
	for id := range ids {
		require.Equal(t, 1, completed[id]+dead[id], id)
	}
	t.Logf("%d sent, %d completed, %d dead letters", len(ids), len(completed), len(dead))
}

// count counts the messages of each of the documents in a stream.
func count(t *testing.T, stream string, ids map[string]bool) map[string]int {
	t.Helper()
	n := map[string]int{}
	for m, err := range line.Bus.Scan(t.Context(), stream, "", 0) {
		require.NoError(t, err)
		if id := m.Header[contract.HeaderFileID]; ids[id] {
			n[id]++
		}
	}
	return n
}
