package letters

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/contract"
)

func TestTheShapeOfAnError(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"plain text stays", "the document names no target", "the document names no target"},
		{"numbers", "the document has 17000000 bytes, MAX_DOCUMENT_BYTES is 16777216", "the document has <n> bytes, MAX_DOCUMENT_BYTES is <n>"},
		{"numbers with a sign, a fraction or a unit", "not done within 30s, -4 or 1.5 of 1m30s", "not done within <n>, <n> or <n> of <n>"},
		{"values in quotes", `header Llm-File-Id is "a \"b\"" but metadata.file_id is 'x y'`, `header Llm-File-Id is <value> but metadata.file_id is <value>`},
		{"an apostrophe is no quote", "the body's sha256 is wrong, it isn't a's", "the body's sha256 is wrong, it isn't a's"},
		{"a quote that was cut off", `task type "very lo`, "task type <value>"},
		{"places in a document", "/content/jobs/0/title: want string, got number", "/content/jobs/<n>/title: want string, got number"},
		{
			"a list of the same, however long",
			`/content/jobs/0: want member "title", got none; /content/jobs/12: want member "title", got none; and 7 more`,
			"/content/jobs/<n>: want member <value>, got none; and <n> more",
		},
		{"hashes", "the sha256 of content is 0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9", "the sha256 of content is <hash>"},
		{"ids", "target 01949b3e-5c10-7a41-9d1e-2f6b8c04a101 of job_42 is a dead letter", "target <id> of <id> is a dead letter"},
		{"an id that looks like a word", "target hello-world is not known", "target <id> is not known"},
		{"times", "it was 2025-01-27T14:30:52.5Z, not 2025-01-27", "it was <time>, not <time>"},
		{"addresses", "dial tcp 10.0.0.7:443: connect to https://a.example/x?y=1, [::1]:80 or api.example.com:8443", "dial tcp <address>: connect to <address>, <address> or <address>"},
		{"names of objects", "llm-raw/by_date/2025-01-27/20250127_143052_intent_analysis_openai_abc123.json is missing", "llm-raw/by_date/<time>/<id>.json is missing"},
		{"nothing", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, Shape(tt.text))
			require.Equal(t, tt.want, Shape(Shape(tt.text)), "a shape has itself as its shape")
		})
	}
}

func TestLettersAreGroupedByCause(t *testing.T) {
	t.Parallel()
	at := time.Date(2025, 1, 27, 14, 30, 52, 0, time.UTC)
	var all []Letter
	add := func(seq uint64, stage contract.Stage, reason contract.Reason, text string, after time.Duration) {
		all = append(all, Letter{Seq: seq, Stage: stage, Reason: reason, Error: text, FailedAt: at.Add(after), Group: groupID(stage, reason, Shape(text))})
	}
	add(1, contract.Aggregate, contract.ReasonUnroutable, "target a1 is not known", time.Hour)
	add(2, contract.Aggregate, contract.ReasonUnroutable, "target b2 is not known", 0)
	add(3, contract.Aggregate, contract.ReasonUnroutable, "target b2 has no result", 0)
	add(4, contract.Validate, contract.ReasonUnroutable, "target a1 is not known", 0)
	groups := GroupLetters(all)
	require.Len(t, groups, 3)
	require.Equal(t, Group{
		ID: "ad4efa93", Stage: contract.Aggregate, Reason: contract.ReasonUnroutable, Shape: "target <id> is not known", Count: 2,
		First: at, Last: at.Add(time.Hour), Sample: 2,
	}, groups[0], "the id is the same for ever")
	require.NoError(t, Filter{Group: groups[0].ID}.Validate())
	require.ErrorContains(t, Filter{Group: "x"}.Validate(), "is not of the form 1a2b3c4d")
}

func TestShares(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]float64{"0": 0, "0.1": 0.1, "10%": 0.1, "100%": 1} {
		got, err := ParseShare(in)
		require.NoError(t, err)
		require.InDelta(t, want, got, 1e-9)
	}
	for _, in := range []string{"", "x", "-1", "2", "101%", "NaN"} {
		_, err := ParseShare(in)
		require.Error(t, err, in)
	}
}
