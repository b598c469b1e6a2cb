package schemas_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/schemas"
)

// refuse keeps the compiler from loading anything that is not embedded.
type refuse struct{}

func (refuse) Load(url string) (any, error) { return nil, fmt.Errorf("%s must not be loaded", url) }

func compile(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	text, err := fs.ReadFile(schemas.Files(), name+".json")
	require.NoError(t, err)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(refuse{})
	require.NoError(t, c.AddResource("test:///"+name, value))
	s, err := c.Compile("test:///" + name)
	require.NoError(t, err)
	return s
}

func TestEveryTaskHasASchemaThatCompiles(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"data_enrichment/1", "intent_analysis/1", "job_extraction/1", "quality_validation/1"}, schemas.Names())
	for _, name := range schemas.Names() {
		require.Equal(t, name, compile(t, name).Title)
	}
}

// Each case names the schema, the document and the places that are wrong; none means valid.
type schemaCase struct {
	Case    string          `json:"case"`
	Schema  string          `json:"schema"`
	Content json.RawMessage `json:"content"`
	Wrong   []string        `json:"wrong"`
}

func TestCases(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("testdata", "cases.json"))
	require.NoError(t, err)
	var cases []schemaCase
	require.NoError(t, json.Unmarshal(text, &cases))
	for _, c := range cases {
		t.Run(c.Case, func(t *testing.T) {
			t.Parallel()
			value, err := jsonschema.UnmarshalJSON(bytes.NewReader(c.Content))
			require.NoError(t, err)
			require.Equal(t, c.Wrong, places(compile(t, c.Schema).Validate(value)))
		})
	}
}

// places returns the JSON Pointers at which a document is wrong, sorted, each once.
func places(err error) []string {
	found, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return nil
	}
	var out []string
	var walk func(e *jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		if len(e.Causes) == 0 {
			out = append(out, strings.Join(append([]string{""}, e.InstanceLocation...), "/"))
		}
		for _, c := range e.Causes {
			walk(c)
		}
	}
	walk(found)
	slices.Sort(out)
	return slices.Compact(out)
}

// sample is an envelope, or a provider's response of which nothing is read.
type sample struct {
	Metadata struct {
		FileID    string `json:"file_id"`
		CreatedAt string `json:"created_at"`
		Task      string `json:"task_type"`
		Provider  string `json:"llm_provider"`
		Session   string `json:"session_id"`
		Schema    string `json:"schema"`
	} `json:"metadata"`
	Content json.RawMessage `json:"content"`
}

var fileName = regexp.MustCompile(`^(\d{8}_\d{6})_(intent_analysis|job_extraction|data_enrichment|quality_validation)_([a-z0-9-]{1,32})_([A-Za-z0-9.-]+)\.json$`)

// invalid is the one sample that must not fit its schema.
const invalid = "20250127_143411_job_extraction_google_yza567.json"

func readSamples(t *testing.T) map[string]sample {
	t.Helper()
	paths, err := fs.Glob(schemas.Examples(), "*.json")
	require.NoError(t, err)
	out := map[string]sample{}
	for _, p := range paths {
		text, err := fs.ReadFile(schemas.Examples(), p)
		require.NoError(t, err)
		var s sample
		require.NoError(t, json.Unmarshal(text, &s), p)
		out[p] = s
	}
	return out
}

func TestSamplesFitTheirSchemas(t *testing.T) {
	t.Parallel()
	tasks := map[string]bool{}
	for name, s := range readSamples(t) {
		m := fileName.FindStringSubmatch(name)
		require.NotNil(t, m, "%s is no file name of the contract", name)
		if s.Metadata.FileID == "" {
			continue // a provider's response
		}
		tasks[s.Metadata.Task] = true
		stamp := strings.NewReplacer("-", "", ":", "", "T", "_", "Z", "").Replace(s.Metadata.CreatedAt)
		require.Equal(t, []string{stamp, s.Metadata.Task, s.Metadata.Provider, s.Metadata.Session}, m[1:], name)

		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(s.Content))
		require.NoError(t, err)
		wrong := places(compile(t, s.Metadata.Schema).Validate(value))
		if name == invalid {
			require.Equal(t, []string{"/jobs/0", "/jobs/0/salary"}, wrong)
			continue
		}
		require.Empty(t, wrong, name)
	}
	require.Len(t, tasks, 4, "each task type has a sample")
}

func TestSamplesTargetEachOther(t *testing.T) {
	t.Parallel()
	all := readSamples(t)
	ids := map[string]bool{}
	for name, s := range all {
		if s.Metadata.FileID == "" {
			continue
		}
		require.False(t, ids[s.Metadata.FileID], "%s has the file_id of another sample", name)
		ids[s.Metadata.FileID] = true
	}
	targets := 0
	for name, s := range all {
		var content struct {
			Target *struct {
				FileID string `json:"file_id"`
			} `json:"target"`
		}
		if s.Metadata.FileID == "" || json.Unmarshal(s.Content, &content) != nil || content.Target == nil {
			continue
		}
		require.True(t, ids[content.Target.FileID], "%s targets no sample", name)
		targets++
	}
	require.Equal(t, 2, targets)
}

func TestEverySampleIsTold(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join("examples", "README.md"))
	require.NoError(t, err)
	for name := range readSamples(t) {
		require.Contains(t, string(readme), "`"+name+"`")
	}
}
