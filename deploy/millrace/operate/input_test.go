package operate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStandardInputIsOneDocumentOrMany(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		want     []string
	}{
		{"one value is one document", `{"a":1}` + "\n", []string{`{"a":1}` + "\n"}},
		{"several lines of one value are one document", "{\n\"a\":1\n}\n", []string{"{\n\"a\":1\n}\n"}},
		{"a value in each line is many", "{\"a\":1}\n\n[2]\r\n3", []string{`{"a":1}`, `[2]`, `3`}},
		{"text beside values is one document", "{\"a\":1}\nand {\"b\":2}\n", []string{"{\"a\":1}\nand {\"b\":2}\n"}},
		{"text is one document", "Sure!", []string{"Sure!"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			found, errs := collect(t, []string{Stdin}, strings.NewReader(tt.in))
			require.Empty(t, errs)
			var got []string
			for _, in := range found {
				got = append(got, string(in.Body))
			}
			require.Equal(t, tt.want, got)
		})
	}
	_, errs := collect(t, []string{Stdin}, strings.NewReader(""))
	require.Equal(t, []string{"standard input: there is nothing to read"}, errs)
}

func TestManyValuesIsDecidedByTheLinesThatWereRead(t *testing.T) {
	t.Parallel()
	require.True(t, manyValues([]byte("1\n2\n{\"cut"), false))
	require.False(t, manyValues([]byte("1\n2\n{\"cut"), true))
	require.False(t, manyValues([]byte("1\n{\"cut"), false))
}

func TestFoldersAreReadInOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, body := range map[string]string{
		"b.json": "b", "a/2.jsonl": "1\n2\n", "a/1.json": "a", "c.txt": "no", ".hidden.json": "no", ".git/x.json": "no",
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
		require.NoError(t, os.WriteFile(path, []byte(body), 0o600))
	}
	found, errs := collect(t, []string{dir, filepath.Join(dir, "c.txt"), filepath.Join(dir, "gone")}, nil)
	var where []string
	for _, in := range found {
		rel, err := filepath.Rel(dir, in.Where())
		require.NoError(t, err)
		where = append(where, rel+"="+string(in.Body))
	}
	require.Equal(t, []string{"a/1.json=a", "a/2.jsonl:1=1", "a/2.jsonl:2=2", "b.json=b", "c.txt=no"}, where)
	require.Equal(t, []string{filepath.Join(dir, "gone") + ": no such file or directory"}, errs)

	empty := t.TempDir()
	_, errs = collect(t, []string{empty}, nil)
	require.Equal(t, []string{empty + ": the folder has no *.json, *.ndjson or *.jsonl file"}, errs)
}

func TestInputsStopWhenTheCallerHasHadEnough(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"1.json", "2.json"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o600))
	}
	n := 0
	for range Inputs([]string{dir, dir}, nil) {
		n++
		break
	}
	require.Equal(t, 1, n)

	_, err := Single(Inputs([]string{dir}, nil))
	require.ErrorContains(t, err, "2.json is another one")
}
