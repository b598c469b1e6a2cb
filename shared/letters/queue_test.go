package letters

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/store"
)

func seqs(letters []Letter) []uint64 {
	var out []uint64
	for i := range letters {
		out = append(out, letters[i].Seq)
	}
	return out
}

func TestDeadLettersAreSelected(t *testing.T) {
	t.Parallel()
	s := setup(t)
	old := time.Now().Add(-2 * time.Hour).UTC().Format(time.RFC3339Nano)
	s.bury(contract.Validate, contract.ReasonSchema, "a", "{}", bus.Header{contract.HeaderFailedAt: old})
	s.bury(contract.Validate, contract.ReasonExhausted, "b", "{}", nil)
	s.bury(contract.Enrich, contract.ReasonExhausted, "c", "{}", nil)
	s.bury(contract.Enrich, contract.ReasonExhausted, "d", "{}", nil)
	s.bury(contract.Enrich, contract.ReasonExhausted, "d", "{}", bus.Header{contract.HeaderReplayCount: "1"})
	s.accept("c", "{}")
	s.finish("c", ledger.Dead, contract.Enrich, contract.ReasonExhausted)
	require.NoError(t, s.ledger.Replaying(t.Context(), "c", 1))

	tests := []struct {
		name   string
		filter Filter
		want   []uint64
	}{
		{"everything that was not replayed", Filter{}, []uint64{1, 2, 5}},
		{"everything", Filter{All: true}, []uint64{1, 2, 3, 4, 5}},
		{"by stage", Filter{Stage: contract.Validate}, []uint64{1, 2}},
		{"by reason", Filter{Reason: contract.ReasonExhausted}, []uint64{2, 5}},
		{"by stage and reason", Filter{Stage: contract.Enrich, Reason: contract.ReasonSchema}, nil},
		{"by file_id", Filter{FileID: "d", All: true}, []uint64{4, 5}},
		{"by group", Filter{Group: Read(s.last(contract.StreamDLQ)).Group}, []uint64{5}},
		{"since", Filter{Since: time.Now().Add(-time.Hour)}, []uint64{2, 5}},
		{"by sequence", Filter{Seqs: []uint64{5, 1, 1, 99}}, []uint64{1, 5}},
		{"by sequence, replayed", Filter{Seqs: []uint64{3}}, nil},
		{"the newest", Filter{Newest: 2}, []uint64{2, 5}},
		{"the newest of all", Filter{Newest: 2, All: true}, []uint64{4, 5}},
	}
	for _, tt := range tests {
		letters, err := s.letters().List(t.Context(), tt.filter)
		require.NoError(t, err, tt.name)
		require.Equal(t, tt.want, seqs(letters), tt.name)
	}
	letters, err := s.letters().List(t.Context(), Filter{All: true})
	require.NoError(t, err)
	require.Equal(t, []Count{
		{contract.Validate, contract.ReasonExhausted, 1},
		{contract.Validate, contract.ReasonSchema, 1},
		{contract.Enrich, contract.ReasonExhausted, 3},
	}, CountLetters(letters))
}

func TestALetterWithoutAValidIDHidesNoOther(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.bury(contract.Enrich, contract.ReasonExhausted, "a b", "{}", nil)
	s.bury(contract.Enrich, contract.ReasonExhausted, "c", "{}", nil)
	found, err := s.letters().List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Equal(t, []uint64{1, 2}, seqs(found))
}

func TestAFilterNamesWhatDoesNotExist(t *testing.T) {
	t.Parallel()
	err := Filter{Stage: "nope", Reason: "never", Newest: -1}.Validate()
	require.ErrorContains(t, err, `stage "nope" is not one of`)
	require.ErrorContains(t, err, `reason "never" is not one of`)
	require.ErrorContains(t, err, "limit -1")
}

func TestShowTakesTheNewestOfAFileIDAndFollowsItsObject(t *testing.T) {
	t.Parallel()
	s := setup(t)
	ref := store.Ref{Bucket: contract.BucketProcessed, Key: contract.ClaimPrefix + "a/x.json"}
	require.Empty(t, s.store.Put(t.Context(), store.Object{Ref: ref, Body: []byte("the whole body")}))
	s.bury(contract.Enrich, contract.ReasonExhausted, "a", "first", nil)
	s.bury(contract.Enrich, contract.ReasonExhausted, "a", "small", bus.Header{contract.HeaderObject: ref.String()})

	l, body, err := s.letters().Show(t.Context(), 0, "a")
	require.NoError(t, err)
	require.Equal(t, uint64(2), l.Seq)
	require.Equal(t, "the whole body", string(body))
	require.Equal(t, contract.Enrich, l.Stage)
	require.Equal(t, contract.ReasonExhausted, l.Reason)
	require.Equal(t, "it did not work", l.Error)
	require.Equal(t, 4, l.Attempts)
	require.Equal(t, []string{"error", "timeout"}, l.Failures)
	require.Equal(t, uint64(7), l.Origin.Seq)
	require.Len(t, l.Timeline, 1)

	require.NoError(t, s.store.Delete(t.Context(), ref))
	_, body, err = s.letters().Show(t.Context(), 2, "")
	require.NoError(t, err)
	require.Equal(t, "small", string(body), "the message is shown where the object is gone")

	_, _, err = s.letters().Show(t.Context(), 9, "")
	require.ErrorIs(t, err, ErrNoLetter)
	_, _, err = s.letters().Show(t.Context(), 0, "z")
	require.ErrorIs(t, err, ErrNoLetter)
}

func TestRemoveDeletesOnlyWhatWasSelected(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, id := range []string{"a", "b", "c"} {
		s.bury(contract.Enrich, contract.ReasonExhausted, id, "{}", nil)
	}
	require.NoError(t, s.bus.Delete(t.Context(), contract.StreamDLQ, 1))
	n, err := s.letters().Remove(t.Context(), []Letter{{Seq: 1}, {Seq: 3}})
	require.NoError(t, err)
	require.Equal(t, 2, n)
	left, err := s.letters().List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Equal(t, []uint64{2}, seqs(left))
}

func TestALetterFromAStrangerIsReadAsFarAsItGoes(t *testing.T) {
	t.Parallel()
	l := Read(&bus.Stored{Subject: "llm.dlq", Header: bus.Header{
		contract.HeaderOriginSeq: "-1", contract.HeaderFailedAt: "yesterday", contract.HeaderAttempt: "x",
		contract.HeaderTimeline: "@@", contract.HeaderObject: "../..",
	}})
	require.Zero(t, l.Origin.Seq)
	require.Empty(t, l.Objects())
	require.Equal(t, 1, l.Attempts)
}
