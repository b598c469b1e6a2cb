package stagetest

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/codec"
)

// Sample is one recorded output of a model, or the truth that people wrote for one.
type Sample struct {
	ID       string
	Content  codec.Value
	HasTitle bool // whether it is an object with a title: one job
}

// Jobs reads the recorded job extractions from $TEST_DATA/llm. Without TEST_DATA the test is
// skipped and says so; with TEST_DATA set, missing data is a failure.
func Jobs(tb testing.TB) []Sample {
	tb.Helper()
	dir := os.Getenv("TEST_DATA")
	if dir == "" {
		tb.Skip("SKIPPED: TEST_DATA is not set, recorded model outputs are not tried")
	}
	data, err := os.ReadFile(filepath.Join(dir, "llm", "job-extraction.jsonl"))
	require.NoError(tb, err, "TEST_DATA is set, so the data must be there")
	samples, err := readJobs(data)
	require.NoError(tb, err)
	require.NotEmpty(tb, samples)
	return samples
}

func readJobs(data []byte) ([]Sample, error) {
	var out []Sample
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, len(data)+1)
	for lines.Scan() {
		var row struct {
			ID       string      `json:"id"`
			Output   codec.Value `json:"output"`
			Expected codec.Value `json:"expected"`
		}
		if err := codec.Unmarshal(lines.Bytes(), &row); err != nil {
			return nil, fmt.Errorf("read row %d: %w", len(out)+1, err)
		}
		s := Sample{ID: row.ID, Content: row.Output}
		if s.Content == nil {
			s.Content = row.Expected
		}
		var job struct {
			Title string `json:"title"`
		}
		s.HasTitle = codec.Unmarshal(s.Content, &job) == nil && job.Title != ""
		out = append(out, s)
	}
	return out, lines.Err()
}

// Envelope makes the body of a message that holds content under the given task, as ingest
// leaves it.
func Envelope(tb testing.TB, task string, content codec.Value) []byte {
	tb.Helper()
	body, err := codec.Marshal(map[string]any{
		"metadata": map[string]any{
			"file_id": "doc-1", "created_at": "2025-01-27T14:30:52Z", "task_type": task,
			"llm_provider": "openai", "processing_status": "pending", "file_size": 1,
			"checksum": "sha256:00", "schema": task + "/1",
		},
		"content": content,
	})
	require.NoError(tb, err)
	return body
}
