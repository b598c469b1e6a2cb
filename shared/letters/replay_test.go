package letters

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/inbox"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/store"
)

// replay replays one dead letter and returns what was published.
func (s *set) replay(seq uint64, r Replay) (Replayed, *bus.Stored, error) {
	s.t.Helper()
	done, err := s.letters().Send(s.t.Context(), seq, r)
	if err != nil {
		return done, nil, err
	}
	for _, stage := range contract.Stages() {
		if strings.HasPrefix(done.Subject, contract.StageRoot(stage)+".") {
			return done, s.last(contract.StageStream(stage)), nil
		}
	}
	return done, nil, errors.New("published to no stage")
}

func TestAReplayIsTheSameWorkAgain(t *testing.T) {
	t.Parallel()
	s := setup(t)
	body := envelope("a", "{}")
	s.accept("a", body)
	s.finish("a", ledger.Dead, contract.Enrich, contract.ReasonExhausted)
	seq := s.bury(contract.Enrich, contract.ReasonExhausted, "a", body, nil)

	done, m, err := s.replay(seq, Replay{})
	require.NoError(t, err)
	require.Equal(t, Replayed{Seq: seq, FileID: "a", Subject: "llm.enrich.normal.job_extraction.openai", Count: 1}, done)
	require.Equal(t, body, string(m.Body))
	id := m.Header["Nats-Msg-Id"]
	delete(m.Header, "Nats-Msg-Id")
	require.Equal(t, "a:replay:0:r1", id)
	require.Equal(t, bus.Header{
		contract.HeaderFileID: "a", contract.HeaderTask: "job_extraction", contract.HeaderProvider: "openai",
		contract.HeaderLane: "normal", contract.HeaderName: "a.json", contract.HeaderSHA256: doc.Sum([]byte(body)),
		contract.HeaderTimeline: "ingest@1737988252000+3*1", contract.HeaderTrace: "00-aa-bb-01",
		contract.HeaderReplayOf: strconv.FormatUint(seq, 10), contract.HeaderReplayCount: "1",
	}, m.Header)

	e, err := s.ledger.Read(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, 1, e.Replay)
	require.Equal(t, ledger.Open, e.State)
	left, err := s.letters().List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestAReplayAgainCountsHigher(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.accept("a", "{}")
	seq := s.bury(contract.Enrich, contract.ReasonExhausted, "a", "{}", nil)
	for want := 1; want <= 2; want++ {
		done, _, err := s.replay(seq, Replay{})
		require.NoError(t, err)
		require.Equal(t, want, done.Count)
	}
}

func TestAReplayThatTheBrokerHasAlreadyIsAnError(t *testing.T) {
	t.Parallel()
	s := setup(t)
	seq := s.bury(contract.Enrich, contract.ReasonExhausted, "a", "{}", nil) // unknown to the ledger, so the count stays
	_, _, err := s.replay(seq, Replay{})
	require.NoError(t, err)
	_, _, err = s.replay(seq, Replay{})
	require.ErrorIs(t, err, ErrReplayed)
}

func TestADocumentIsReplayedOnlySoOften(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.accept("a", "{}")
	seq := s.bury(contract.Enrich, contract.ReasonExhausted, "a", "{}", bus.Header{contract.HeaderReplayCount: "1"})
	q := s.letters()
	q.MaxReplays = 3
	for range 2 {
		_, err := q.Send(t.Context(), seq, Replay{})
		require.NoError(t, err)
	}
	_, err := q.Send(t.Context(), seq, Replay{})
	require.ErrorIs(t, err, ErrTooMany)
	require.ErrorContains(t, err, "has been replayed 3 times, REPLAY_MAX is 3")
	info, err := s.bus.Info(t.Context(), contract.StageStream(contract.Enrich))
	require.NoError(t, err)
	require.Equal(t, uint64(2), info.Messages)
}

func TestAReplayOfADocumentThatTheLedgerForgotIsHiddenToo(t *testing.T) {
	t.Parallel()
	s := setup(t)
	seq := s.bury(contract.Enrich, contract.ReasonExhausted, "a", "{}", nil)
	_, _, err := s.replay(seq, Replay{})
	require.NoError(t, err)
	left, err := s.letters().List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Empty(t, left)
	all, err := s.letters().List(t.Context(), Filter{All: true})
	require.NoError(t, err)
	require.True(t, all[0].Replayed)
	_, err = s.letters().Remove(t.Context(), all)
	require.NoError(t, err)
	kv, err := s.bus.KV(t.Context(), contract.KVLedger)
	require.NoError(t, err)
	_, err = kv.Get(t.Context(), markKey(seq))
	require.ErrorIs(t, err, bus.ErrNotFound, "the mark goes with the letter")
}

func TestWhereAReplayGoes(t *testing.T) {
	t.Parallel()
	const prefix = "llm."
	tests := []struct {
		name    string
		stage   contract.Stage
		to      contract.Stage
		header  bus.Header
		want    string
		wantErr string
	}{
		{name: "to where it came from", stage: contract.Ingest, want: "raw.job_extraction.openai"},
		{name: "to an earlier stage", stage: contract.Enrich, to: contract.Validate, want: "validate.normal.job_extraction.openai"},
		{name: "to ingest, with its lane", stage: contract.Enrich, to: contract.Ingest, want: "raw.job_extraction.openai.normal"},
		{
			name: "a foreign origin is not believed", stage: contract.Enrich,
			header: bus.Header{contract.HeaderOriginSubject: "llm.completed.x.y"}, want: "enrich.normal.job_extraction.openai",
		},
		{
			name: "without a lane it is low", stage: contract.Enrich, to: contract.Validate,
			header: bus.Header{contract.HeaderLane: "", contract.HeaderTask: "a.b"}, want: "validate.low.unknown.openai",
		},
		{name: "scrape needs a source", stage: contract.Enrich, to: contract.Scrape, wantErr: "names no source"},
		{
			name: "scrape gets its source", stage: contract.Enrich, to: contract.Scrape,
			header: bus.Header{contract.HeaderSource: "seek"}, want: "scrape.normal.job_extraction.seek",
		},
		{
			name: "a stage that takes envelopes gets only those", stage: contract.Ingest, to: contract.Validate,
			header: bus.Header{contract.HeaderFileID: "other"}, wantErr: `takes only envelopes of file_id "other"`,
		},
		{
			name: "without a file_id it cannot be replayed", stage: contract.Enrich,
			header: bus.Header{contract.HeaderFileID: "a b"}, wantErr: "no valid Llm-File-Id",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			seq := s.bury(tt.stage, contract.ReasonExhausted, "a", envelope("a", "{}"), tt.header)
			done, _, err := s.replay(seq, Replay{To: tt.to})
			if tt.wantErr != "" {
				require.ErrorContains(t, err, tt.wantErr)
				return
			}
			require.NoError(t, err)
			require.Equal(t, prefix+tt.want, done.Subject)
		})
	}
	s := setup(t)
	seq := s.bury("nostage", contract.ReasonExhausted, "a", "{}", nil)
	_, _, err := s.replay(seq, Replay{})
	require.ErrorContains(t, err, "does not exist")
	_, _, err = s.replay(seq+1, Replay{})
	require.ErrorIs(t, err, ErrNoLetter)
}

func TestAPatchedReplay(t *testing.T) {
	t.Parallel()
	s := setup(t)
	patch := []byte(`{"content":{"jobs":[{"title":"Baker"}],"bad":null}}`)
	seq := s.bury(contract.Enrich, contract.ReasonSchema, "a", envelope("a", `{"bad":1,"kept":2}`), nil)
	_, m, err := s.replay(seq, Replay{Patch: patch})
	require.NoError(t, err)
	require.NotContains(t, m.Header, contract.HeaderSHA256)
	e, err := doc.Decode(m.Body)
	require.NoError(t, err)
	require.JSONEq(t, `{"jobs":[{"title":"Baker"}],"kept":2}`, string(e.Content))
	require.Equal(t, "sha256:ab", e.Metadata.Checksum, "behind ingest the checksum is that of the first raw bytes")

	seq = s.bury(contract.Ingest, contract.ReasonIntegrity, "b", envelope("b", `{"bad":1}`), nil)
	_, m, err = s.replay(seq, Replay{Patch: patch})
	require.NoError(t, err)
	require.NotContains(t, string(m.Body), "checksum", "ingest would hold the patched content against it")
	require.NotContains(t, string(m.Body), "file_size")

	seq = s.bury(contract.Ingest, contract.ReasonIntegrity, "c", envelope("c", `{"bad":1}`), nil)
	_, m, err = s.replay(seq, Replay{Patch: []byte(`{"metadata":{"checksum":"mine"}}`)})
	require.NoError(t, err)
	require.Contains(t, string(m.Body), `"checksum":"mine"`)

	seq = s.bury(contract.Ingest, contract.ReasonMalformed, "d", `{"cut`, nil)
	_, _, err = s.replay(seq, Replay{Patch: patch})
	require.ErrorContains(t, err, "the body is not JSON")
}

func TestAReplayOfAnObject(t *testing.T) {
	t.Parallel()
	s := setup(t)
	claim := store.Ref{Bucket: contract.BucketProcessed, Key: contract.ClaimPrefix + "a/x.json"}
	whole := envelope("a", `"`+strings.Repeat("x", inbox.MaxMessage)+`"`)
	require.Empty(t, s.store.Put(t.Context(), store.Object{Ref: claim, Body: []byte(whole)}))
	object := bus.Header{contract.HeaderObject: claim.String()}

	seq := s.bury(contract.Enrich, contract.ReasonExhausted, "a", `{"metadata":{}}`, object)
	_, m, err := s.replay(seq, Replay{})
	require.NoError(t, err)
	require.Equal(t, claim.String(), m.Header[contract.HeaderObject], "the same stage gets the same object")

	_, m, err = s.replay(s.bury(contract.Enrich, contract.ReasonExhausted, "a", `{}`, bus.Header{
		contract.HeaderObject: claim.String(), contract.HeaderReplayCount: "1",
	}), Replay{To: contract.Ingest})
	require.NoError(t, err)
	require.Equal(t, "llm-raw/_inbox/a", m.Header[contract.HeaderObject], "ingest takes objects only from its inbox")

	_, m, err = s.replay(s.bury(contract.Enrich, contract.ReasonExhausted, "a", `{}`, bus.Header{
		contract.HeaderObject: claim.String(), contract.HeaderReplayCount: "2",
	}), Replay{Patch: []byte(`{"metadata":{"user_id":"u"}}`)})
	require.NoError(t, err)
	require.Equal(t, "llm-processed/_claim/a/a-replay-r3.json", m.Header[contract.HeaderObject])
	ref, _ := store.ParseRef(m.Header[contract.HeaderObject])
	o, err := s.store.Get(t.Context(), ref)
	require.NoError(t, err)
	require.Contains(t, string(o.Body), `"user_id":"u"`)
	e, err := doc.Decode(m.Body)
	require.NoError(t, err)
	require.Equal(t, "a", e.Metadata.FileID)

	_, _, err = s.replay(s.bury(contract.Enrich, contract.ReasonExhausted, "b", `{}`, bus.Header{
		contract.HeaderObject: "llm-raw/by_date/x",
	}), Replay{})
	require.ErrorContains(t, err, "takes objects only under llm-processed/_claim/")

	require.NoError(t, s.store.Delete(t.Context(), claim))
	_, _, err = s.replay(s.bury(contract.Enrich, contract.ReasonExhausted, "c", `{}`, object), Replay{})
	require.ErrorIs(t, err, store.ErrNotFound)
}

func TestRates(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]float64{"10/s": 10, "5": 5, "90/m": 1.5, "3600/h": 1} {
		got, err := ParseRate(in)
		require.NoError(t, err)
		require.InDelta(t, want, got, 1e-9)
	}
	for _, in := range []string{"", "x", "0", "-1/s", "1/y", "Inf", "NaN", "1e9/s"} {
		_, err := ParseRate(in)
		require.Error(t, err, in)
	}
}

// silent is a bus whose answers to publishes do not come.
type silent struct{ bus.Bus }

func (silent) Publish(context.Context, bus.Message) (bus.Receipt, error) {
	return bus.Receipt{}, fault.Down(errors.New("no answer"))
}

func TestALetterIsMarkedOnlyWhenItsReplayIsConfirmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		s.accept("a", "{}")
		seq := s.bury(contract.Enrich, contract.ReasonExhausted, "a", "{}", nil)
		q := s.letters()
		q.Bus = silent{s.bus}
		_, err := q.Send(t.Context(), seq, Replay{})
		require.ErrorContains(t, err, "no answer")
		left, err := q.List(t.Context(), Filter{})
		require.NoError(t, err)
		require.Equal(t, []uint64{seq}, seqs(left), "nothing is marked")
		done, err := s.letters().Send(t.Context(), seq, Replay{})
		require.NoError(t, err)
		require.Equal(t, 1, done.Count, "and no replay is counted")
		left, err = q.List(t.Context(), Filter{})
		require.NoError(t, err)
		require.Empty(t, left)
	})
}
