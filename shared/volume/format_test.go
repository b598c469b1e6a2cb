package volume

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

func TestPeriods(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		p          Period
		wantName   string
		start, end string
	}{
		{"a day is one of UTC", Day(time.Date(2025, 1, 27, 23, 30, 0, 0, time.FixedZone("", -3600))), "2025-01-28", "2025-01-28", "2025-01-29"},
		{"a week begins on Monday", Week(time.Date(2025, 2, 2, 23, 59, 0, 0, time.UTC)), "2025-W05", "2025-01-27", "2025-02-03"},
		{"the first of January may be in the last week of the year before", Week(time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)), "2020-W53", "2020-12-28", "2021-01-04"},
		{"the end of December may be in the first week of the next year", Week(time.Date(2024, 12, 30, 12, 0, 0, 0, time.UTC)), "2025-W01", "2024-12-30", "2025-01-06"},
		{"a month", Month(time.Date(2024, 2, 29, 1, 0, 0, 0, time.UTC)), "2024-02", "2024-02-01", "2024-03-01"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, []string{tt.wantName, tt.start, tt.end},
				[]string{tt.p.Name, tt.p.Start.Format(time.DateOnly), tt.p.End.Format(time.DateOnly)})
			again, err := Parse(tt.p.Kind, tt.p.Name)
			require.NoError(t, err)
			require.Equal(t, tt.p, again)
			require.True(t, tt.p.Contains(tt.p.Start))
			require.True(t, tt.p.Contains(tt.p.End.Add(-1)))
			require.False(t, tt.p.Contains(tt.p.End))
			days := tt.p.Days()
			require.Equal(t, tt.p.End, days[len(days)-1].End)
		})
	}
}

func TestWhatIsNoPeriod(t *testing.T) {
	t.Parallel()
	for kind, names := range map[Kind][]string{
		Daily: {"", "2025-02-30", "2025-1-2", "2025-01-27x", "../x"}, Weekly: {"2025-W00", "2025-W54", "2025-W53", "2025-W5", "2025-W05x", "W05"},
		Monthly: {"2025-13", "2025-1", "2025"}, "yearly": {"2025"},
	} {
		for _, name := range names {
			_, err := Parse(kind, name)
			require.Error(t, err, "%s %q", kind, name)
		}
	}
}

// nasty are bodies that a careless line would change.
var nasty = []string{
	``, ` `, `{}`, `[]`, `null`, `"x"`, `12`, ` {"a":1}`, `{"a":1} `, "{\"a\":1}\n", `{"a": 1}`, "{\n  \"a\": [1, 2]\n}", `{"a":1,"a":2}`,
	`{"a":123456789012345678901234567890.0000000000001e-400}`, `{"a":1.0,"b":1e5,"c":-0}`, `{"a":0.1e+1}`,
	"{\"a\":\"\u2028\u2029\"}", `{"a":"\u2028"}`, `{"a":"<>&"}`, `{"a":"\u003c"}`, `{"a":"\/"}`, `{"a":"/"}`, `{"\u0061":1}`,
	`{"a":"\ud83d\ude00"}`, `{"a":"😀"}`, `{"a":"\ud800"}`, "\xff\xfe", "{\"a\":\"\xff\"}", "\ufeff{}", "\x00", "{\"a\":\"\x7f\"}",
	`{"a":"\u0000"}`, `{"a":"\n\t\b\f\r"}`, `{"a":"\u000a"}`, "line\nline", "\r\n", `{"b":1,"a":2}`, `{"a":tru`, "not json",
	strings.Repeat("[", 1200) + strings.Repeat("]", 1200), `{"a":"` + strings.Repeat("é", 5000) + `"}`, `{"":{"":[{}]}}`,
}

func TestEveryBodyComesBackByteForByte(t *testing.T) {
	t.Parallel()
	for _, body := range nasty {
		d := &Document{
			Seq: 7, CompletedAt: time.Date(2025, 1, 27, 1, 2, 3, 456789012, time.UTC), Subject: "llm.completed.x.y",
			Header: bus.Header{contract.HeaderFileID: "a\u2028<b"}, Record: []byte(body), Exact: true,
			Objects: []Object{{
				Class: contract.ClassRaw, Refs: []store.Ref{{Bucket: "b", Key: "k/l"}, {Bucket: "b", Key: "m"}},
				Body: []byte(body), ContentType: "text/plain", Meta: map[string]string{"file-id": "a", "empty": ""},
			}},
			Missing: []store.Ref{{Bucket: "c", Key: "x/y/z"}},
		}
		text, err := d.Encode()
		require.NoError(t, err, "%q", body)
		require.NotContains(t, string(text), "\n")
		back, err := DecodeLine(text)
		require.NoError(t, err, "%q", body)
		require.Equal(t, body, string(back.Record))
		require.Equal(t, body, string(back.Objects[0].Body))
		back.Record, back.Objects[0].Body = d.Record, d.Objects[0].Body // nil or empty is the same
		require.Equal(t, d, back)
		again, err := back.Encode()
		require.NoError(t, err)
		require.Equal(t, text, again)
	}
}

func TestPlainJSONStandsInALineAsJSON(t *testing.T) {
	t.Parallel()
	require.NotNil(t, wrap([]byte(`{"a":[1,"x",{"b":null}]}`)).JSON)
	require.NotNil(t, wrap([]byte(`{"a":1.0,"b":"<>&"}`)).JSON)
	require.NotNil(t, wrap([]byte(`{"a": 1}`)).Text)
	require.NotNil(t, wrap([]byte("\xff")).Base64)
}

func FuzzBody(f *testing.F) {
	for _, body := range nasty {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d := &Document{Record: body, Objects: []Object{{Refs: []store.Ref{{Bucket: "b", Key: "k"}}, Body: body}}}
		text, err := d.Encode()
		require.NoError(t, err)
		require.NotContains(t, string(text), "\n")
		back, err := DecodeLine(text)
		require.NoError(t, err)
		require.Equal(t, string(body), string(back.Record))
		require.Equal(t, string(body), string(back.Objects[0].Body))
	})
}

func FuzzLine(f *testing.F) {
	f.Add([]byte(`{"seq":1,"completed_at":"2025-01-27T00:00:00Z","record":{"objects":[{"bucket":"llm-raw","key":"by_date/x/y.json"}]},"raw":"{}","missing":["a/b"]}`))
	f.Add([]byte(`{"v":2,"seq":1,"completed_at":"2025-01-27T00:00:00Z","record":{},"objects":[{"refs":["a/b"],"type":"t","json":{}}]}`))
	f.Add([]byte(`{"v":2,"record_text":"x","objects":[{"refs":[],"type":"t","json":{}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := DecodeLine(text)
		if err != nil {
			return
		}
		d.entry()
		d.Stored()
		if !d.Exact {
			return
		}
		again, err := d.Encode()
		require.NoError(t, err)
		back, err := DecodeLine(again)
		require.NoError(t, err)
		require.Equal(t, d.Seq, back.Seq)
		require.Len(t, back.Stored(), len(d.Stored()))
	})
}

func FuzzManifest(f *testing.F) {
	p, err := Parse(Daily, "2025-01-27")
	require.NoError(f, err)
	text, err := newManifest(p).add(Part{Key: p.PartKey(1), Index: &Pointer{Key: p.IndexKey(1)}, Documents: 1}).encode()
	require.NoError(f, err)
	f.Add(text)
	f.Add([]byte(`{"date":"2025-01-27","parts":[{"key":"daily/2025-01-27/part-1.jsonl.zst","documents":1,"first_seq":1,"last_seq":1,"sha256":"x","bytes":3}],"documents":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := DecodeManifest(p, text)
		if err != nil {
			return
		}
		m.Last(0)
		again, err := m.add(Part{Key: p.PartKey(len(m.Parts) + 1)}).encode()
		require.NoError(t, err)
		_, err = DecodeManifest(p, again)
		require.NoError(t, err)
	})
}

func FuzzIndex(f *testing.F) {
	x := &Index{
		Version: FormatVersion, Frames: []Frame{{Bytes: 10, Lines: 20, Documents: 1}},
		Documents: []Entry{{FileID: "a", Seq: 1, Bytes: 19}},
	}
	body, err := x.encode()
	require.NoError(f, err)
	f.Add(body, int64(10))
	f.Add([]byte("{}"), int64(0))
	f.Fuzz(func(_ *testing.T, body []byte, part int64) {
		x, err := DecodeIndex(body, part)
		if err != nil {
			return
		}
		for _, e := range x.Documents {
			x.frame(e.Frame)
			x.find(e.FileID)
		}
	})
}
