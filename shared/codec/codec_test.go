package codec_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/codec"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in, wantErr string
	}{
		{"an object", ` {"a":[1,"x",null]} `, ""},
		{"a scalar", `12`, ""},
		{"as deep as allowed", strings.Repeat("[", 8) + strings.Repeat("]", 8), ""},
		{"deeper", strings.Repeat("[", 9) + strings.Repeat("]", 9), "at byte 9, over 8 levels"},
		{"very deep and never closed", strings.Repeat("[", 1<<20), "over 8 levels"},
		{"nothing", "  ", "ends too early"},
		{"cut short", `{"a":`, "unexpected EOF"},
		{"two values", `{} {}`, "at byte 3: more text"},
		{"text behind it", `1 x`, "at byte 2: more text"},
		{"a duplicate name", `{"a":1,"a":2}`, "duplicate"},
		{"a duplicate name in disguise", `{"a":1,"\u0061":2}`, "duplicate"},
		{"invalid UTF-8", "\"\xff\"", "UTF-8"},
		{"a lone surrogate", `"\ud800"`, "surrogate"},
		{"a byte order mark", "\ufeff{}", "invalid character"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := codec.Check([]byte(tt.in), 8)
			if tt.wantErr == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.wantErr)
		})
	}
}

func TestUnmarshalSaysWhatStandsWhereAndNothingOfTheValue(t *testing.T) {
	t.Parallel()
	var v struct {
		Jobs []struct {
			Title string `json:"title"`
		} `json:"jobs"`
	}
	err := codec.Unmarshal([]byte(`{"jobs":[{"title":"x"},{"title":123456}]}`), &v)
	require.EqualError(t, err, "at byte 32, /jobs/1/title: a number is not what is wanted here")
	require.ErrorContains(t, codec.Unmarshal([]byte(`{"jobs":"secret"}`), &v), "at byte 8, /jobs: a string is not")
	require.ErrorContains(t, codec.Unmarshal([]byte(`[]`), &v), "at byte 0: an array is not")
}

func TestMarshalGivesTheSameBytesAgain(t *testing.T) {
	t.Parallel()
	v := map[string]int{"b": 1, "a": 2, "c": 3}
	first, err := codec.Marshal(v)
	require.NoError(t, err)
	require.Equal(t, `{"a":2,"b":1,"c":3}`, string(first))
}
