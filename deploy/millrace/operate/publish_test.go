package operate

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/inbox"
	"github.com/jobspy/millrace/shared/store"
)

func sum(body string) string { return doc.Sum([]byte(body)) }

func TestAddressOfAPublishedDocument(t *testing.T) {
	t.Parallel()
	const named = "20250127_143052_intent_analysis_openai_abc123.json"
	tests := []struct {
		name       string
		file, body string
		address    Address
		subject    string
		fileID     string
		warning    string
		err        string
	}{
		{
			name: "flags win over all", file: named, body: envelope("d1", "{}"),
			address: Address{Task: "quality_validation", Provider: "google", Lane: contract.High},
			subject: "llm.raw.quality_validation.google.high", fileID: "d1",
		},
		{
			name: "the file name wins over the metadata", file: named, body: envelope("d1", "{}"),
			subject: "llm.raw.intent_analysis.openai", fileID: "d1",
		},
		{
			name: "the metadata is the last resort", file: "x.json", body: envelope("d1", "{}"),
			subject: "llm.raw.job_extraction.openai", fileID: "d1",
		},
		{
			name: "what nobody says is unknown", file: "x.json", body: `{"a":1}`,
			subject: "llm.raw.unknown.unknown", fileID: "made-1",
		},
		{
			name: "what cannot stand in a subject is unknown", file: "x.json",
			body:    `{"metadata":{"task_type":"a b","llm_provider":"Open.AI"},"content":1}`,
			subject: "llm.raw.unknown.unknown", fileID: "made-1",
		},
		{
			name: "what is not JSON is published as it is", file: "x.json", body: `Sure! {"a":`,
			subject: "llm.raw.unknown.unknown", fileID: "made-1",
		},
		{
			name: "an empty document is ingest's to refuse", file: "x.json", body: "",
			subject: "llm.raw.unknown.unknown", fileID: "made-1",
		},
		{
			name: "an invalid file_id is published with a warning", file: "x.json",
			body:    `{"metadata":{"file_id":"a b"},"content":1}`,
			subject: "llm.raw.unknown.unknown", fileID: "made-1", warning: `metadata.file_id "a b" is not`,
		},
		{
			name: "an empty file_id is none", file: "x.json", body: `{"metadata":{"file_id":""},"content":1}`,
			subject: "llm.raw.unknown.unknown", fileID: "made-1",
		},
		{
			name: "a file_id of another type is invalid", file: "x.json", body: `{"metadata":{"file_id":7},"content":1}`,
			subject: "llm.raw.unknown.unknown", fileID: "made-1", warning: "metadata.file_id 7 is not",
		},
		{
			name: "a file_id that was asked for is taken", file: "x.json", body: `{}`, address: Address{FileID: "mine"},
			subject: "llm.raw.unknown.unknown", fileID: "mine",
		},
		{
			name: "two file_ids are an error", file: "x.json", body: envelope("d1", "{}"), address: Address{FileID: "mine"},
			err: `metadata.file_id is "d1", which is not the file_id "mine"`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			got, err := s.publisher().Publish(t.Context(), Input{File: "dir/" + tt.file, Body: []byte(tt.body)}, tt.address)
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.subject, got.Subject)
			require.Equal(t, tt.fileID, got.FileID)
			require.Contains(t, got.Warning, tt.warning)
			require.Equal(t, tt.warning == "", got.Warning == "")
			m := s.last(contract.StreamRaw)
			require.Equal(t, tt.subject, m.Subject)
			require.Equal(t, tt.body, string(m.Body))
			require.Equal(t, tt.fileID, m.Header[contract.HeaderFileID])
			require.Equal(t, tt.file, m.Header[contract.HeaderName])
			require.Equal(t, sum(tt.body), m.Header[contract.HeaderSHA256])
			require.NotContains(t, m.Header, contract.HeaderObject)
		})
	}
}

func TestASessionTravelsInTheFileName(t *testing.T) {
	t.Parallel()
	s := setup(t)
	a := Address{Task: "job_extraction", Provider: "openai", Session: "s_1"}
	_, err := s.publisher().Publish(t.Context(), Input{File: "x.json", Body: []byte(`{}`)}, a)
	require.NoError(t, err)
	require.Equal(t, "20250127_143052_job_extraction_openai_s_1.json", s.last(contract.StreamRaw).Header[contract.HeaderName])

	a.Task = ""
	_, err = s.publisher().Publish(t.Context(), Input{File: "x.json", Body: []byte(`{}`)}, a)
	require.ErrorContains(t, err, "put it into metadata.session_id")

	body := []byte(`{"metadata":{"session_id":"other"},"content":1}`)
	_, err = s.publisher().Publish(t.Context(), Input{File: "x.json", Body: body}, a)
	require.ErrorContains(t, err, `metadata.session_id is "other"`)
}

func TestPublishingAgainStoresNothingTwice(t *testing.T) {
	t.Parallel()
	s := setup(t)
	in := Input{File: "x.json", Body: []byte(envelope("d1", "{}"))}
	first, err := s.publisher().Publish(t.Context(), in, Address{})
	require.NoError(t, err)
	require.False(t, first.Duplicate)
	again, err := s.publisher().Publish(t.Context(), in, Address{})
	require.NoError(t, err)
	require.True(t, again.Duplicate)

	in.Body = []byte(envelope("d1", `{"other":1}`))
	other, err := s.publisher().Publish(t.Context(), in, Address{})
	require.NoError(t, err)
	require.False(t, other.Duplicate, "other bytes under the same file_id must reach ingest")
}

func TestALargeDocumentIsStoredFirst(t *testing.T) {
	t.Parallel()
	s := setup(t)
	ref := store.Ref{Bucket: contract.BucketRaw, Key: contract.InboxPrefix + "d1"}
	for i, key := range []string{ref.Key, ref.Key, ref.Key + "-"} {
		content := `"` + strings.Repeat("x", inbox.MaxMessage+i/2) + `"` // the third has other bytes
		body := []byte(envelope("d1", content))
		got, err := s.publisher().Publish(t.Context(), Input{File: "x.json", Body: body}, Address{})
		require.NoError(t, err)
		require.Equal(t, i == 1, got.Duplicate)
		require.Equal(t, len(body), got.Bytes)
		m := s.last(contract.StreamRaw)
		require.Less(t, len(m.Body), 1000)
		require.Equal(t, doc.Sum(body), m.Header[contract.HeaderSHA256])
		object, ok := store.ParseRef(m.Header[contract.HeaderObject])
		require.True(t, ok)
		require.True(t, strings.HasPrefix(object.Key, key))
		o, err := s.store.Get(t.Context(), object)
		require.NoError(t, err)
		require.Equal(t, body, o.Body)
	}
	o, err := s.store.Get(t.Context(), ref)
	require.NoError(t, err)
	require.Len(t, o.Body, len(envelope("d1", `""`))+inbox.MaxMessage, "what waits under the file_id is left alone")
}

// unsure stores a message and then does not answer, a few times.
type unsure struct {
	bus.Bus
	left int
	err  error
}

func (u *unsure) Publish(ctx context.Context, m bus.Message) (bus.Receipt, error) {
	r, err := u.Bus.Publish(ctx, m)
	if u.left > 0 {
		u.left--
		return bus.Receipt{}, u.err
	}
	return r, err
}

func TestAPublishWithoutAnAnswerIsRepeated(t *testing.T) {
	t.Parallel()
	s := setup(t)
	p := s.publisher()
	p.Bus = &unsure{Bus: s.bus, left: 1, err: fault.Down(errors.New("no answer"))}
	got, err := p.Publish(t.Context(), Input{File: "x.json", Body: []byte("{}")}, Address{})
	require.NoError(t, err)
	require.True(t, got.Duplicate, "it had been stored, and is not stored again")
}

func TestARefusalIsSaidInPlainWords(t *testing.T) {
	t.Parallel()
	for cause, want := range map[error]string{
		bus.ErrFull: "the queue is full", bus.ErrNoStream: "no stream takes the message", bus.ErrTooLarge: "too large for the broker",
	} {
		s := setup(t)
		p := s.publisher()
		p.Bus = &unsure{Bus: s.bus, left: 1, err: fault.Down(cause)}
		_, err := p.Publish(t.Context(), Input{File: "x.json", Body: []byte("{}")}, Address{})
		require.ErrorContains(t, err, want)
		require.ErrorIs(t, err, cause)
	}
}

func TestPublishAllKeepsTheOrderAndGoesOnAfterErrors(t *testing.T) {
	t.Parallel()
	s := setup(t)
	dir := t.TempDir()
	var lines strings.Builder
	for range 100 {
		lines.WriteString("{\"a\":1}\n")
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "many.ndjson"), []byte(lines.String()), 0o600))
	var where []string
	failed := 0
	p := &Publisher{Bus: s.bus, Store: s.objects}
	inputs := Inputs([]string{filepath.Join(dir, "none.json"), dir}, strings.NewReader(""))
	err := p.PublishAll(t.Context(), inputs, Address{}, func(r Result) {
		where = append(where, r.Where)
		if r.Err != nil {
			failed++
			require.EqualError(t, r.Err, "no such file or directory")
		}
	})
	require.NoError(t, err)
	require.Equal(t, 1, failed)
	require.Len(t, where, 101)
	require.Equal(t, filepath.Join(dir, "many.ndjson")+":1", where[1])
	require.Equal(t, filepath.Join(dir, "many.ndjson")+":100", where[100])
}

func TestPublishAllEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := s.publisher().PublishAll(ctx, func(yield func(Input, error) bool) {
		for yield(Input{File: Stdin, Body: []byte("{}")}, nil) {
		}
	}, Address{}, func(Result) {
		if n++; n == 5 {
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
}
