package letters

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The cases of RFC 7396, appendix A.
func TestMergePatchFollowsTheRFC(t *testing.T) {
	t.Parallel()
	for _, tt := range [][3]string{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`["a","b"]`, `["c","d"]`, `["c","d"]`},
		{`{"a":"b"}`, `["c"]`, `["c"]`},
		{`{"a":"foo"}`, `null`, `null`},
		{`{"a":"foo"}`, `"bar"`, `"bar"`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		got, err := MergePatch([]byte(tt[0]), []byte(tt[1]))
		require.NoError(t, err)
		require.Equal(t, tt[2], string(got))
	}
}

func TestABrokenPatchIsRefused(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000)
	for _, patch := range []string{"", "{", `{"a":1,"a":2}`, deep} {
		_, err := MergePatch([]byte(`{}`), []byte(patch))
		require.Error(t, err)
	}
}

func FuzzMergePatch(f *testing.F) {
	f.Add(`{"a":{"b":[1]}}`, `{"a":{"b":null,"c":{"d":1}}}`)
	f.Add(`[1]`, `{"a":1}`)
	f.Fuzz(func(t *testing.T, document, patch string) {
		out, err := MergePatch([]byte(document), []byte(patch))
		if err != nil {
			return
		}
		again, err := MergePatch(out, []byte(patch))
		require.NoError(t, err)
		require.JSONEq(t, string(out), string(again), "a merge patch applied twice changes nothing more")
	})
}
