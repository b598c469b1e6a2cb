package stage_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/topology"
)

func TestDoneIsForwardedWithAnAllowListOfHeaders(t *testing.T) {
	t.Parallel()
	ref := store.Ref{Bucket: contract.BucketProcessed, Key: "k"}
	r := setup(t, options{}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
		outs := next(in)
		outs[0].Objects = []store.Object{{Ref: ref, Body: []byte("{}")}}
		return outs, nil
	}))
	r.send(envelope("f1"))
	out := r.until("LLM_ENRICH", 1)[0]
	r.until("LLM_VALIDATE", 0)
	require.Equal(t, "llm.enrich.normal.job_extraction.openai", out.Subject)
	require.Equal(t, "f1:validate:0:r0", out.Header["Nats-Msg-Id"])
	require.Equal(t, "validate", out.Header[contract.HeaderStage])
	require.NotContains(t, out.Header, "X-Other")
	require.Regexp(t, `^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`, out.Header[contract.HeaderTrace])
	require.Regexp(t, `^validate@\d+\+\d+\*1$`, out.Header[contract.HeaderTimeline])
	_, err := r.store.Stat(t.Context(), ref)
	require.NoError(t, err, "an input is acknowledged only when its objects are stored")
}

func TestWhatIsToBeDoneAfterwardsIsDoneBeforeTheAcknowledgement(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		errs  []error
		calls int64
	}{
		{"once where it works", nil, 1},
		{"until it works", []error{errors.New("not now"), fault.Down(errors.New("down"))}, 3},
		{"once where it never will", []error{fault.New(contract.ReasonMalformed, "bad")}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int64
			ref := store.Ref{Bucket: contract.BucketProcessed, Key: "k"}
			var r *rig
			r = setup(t, options{}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
				outs := next(in)
				outs[0].Objects = []store.Object{{Ref: ref, Body: []byte("{}")}}
				outs[0].After = func(ctx context.Context) error {
					if _, err := r.store.Stat(ctx, ref); err != nil {
						return fault.Permanently(contract.ReasonMissingObject, err)
					}
					if len(r.all("LLM_ENRICH")) != 1 || len(r.all("LLM_VALIDATE")) != 1 {
						return fault.New(contract.ReasonMalformed, "out of order")
					}
					if n := int(calls.Add(1)); n <= len(tt.errs) {
						return tt.errs[n-1]
					}
					return nil
				}
				return outs, nil
			}))
			r.send(envelope("f1"))
			r.until("LLM_VALIDATE", 0)
			require.Equal(t, tt.calls, calls.Load())
			require.Len(t, r.all("LLM_ENRICH"), 1)
			require.Empty(t, r.all(contract.StreamDLQ))
		})
	}
}

func TestPermanentBecomesADeadLetterAtOnce(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	r := setup(t, options{}, handle(func(context.Context, *doc.Document) ([]stage.Output, error) {
		calls.Add(1)
		return nil, fault.New(contract.ReasonSchema, "at /jobs/0:\ntitle is missing")
	}))
	body := r.send(envelope("f1"))
	dead := r.until(contract.StreamDLQ, 1)[0]
	r.until("LLM_VALIDATE", 0)
	require.Equal(t, "llm.dlq.validate.schema", dead.Subject)
	require.Equal(t, body, dead.Body, "the body as the stage received it")
	for name, want := range map[string]string{
		contract.HeaderFileID: "f1", contract.HeaderReason: "schema", contract.HeaderError: "at /jobs/0: title is missing",
		contract.HeaderOriginStream: "LLM_VALIDATE", contract.HeaderOriginSeq: "1", contract.HeaderAttempt: "1",
		contract.HeaderOriginSubject: "llm.validate.normal.job_extraction.openai", "Nats-Msg-Id": "f1:validate:0:r0:dlq",
	} {
		require.Equal(t, want, dead.Header[name], name)
	}
	require.NotContains(t, dead.Header, "X-Other")
	e, err := r.ledger.Read(t.Context(), "f1")
	require.NoError(t, err)
	require.Equal(t, []any{ledger.Done, ledger.Dead, contract.ReasonSchema}, []any{e.State, e.Holder.Kind, e.Reason})
	date := doc.Date(time.Now())
	_, err = r.store.Stat(t.Context(), store.Ref{Bucket: contract.BucketDLQ, Key: "validate/schema/" + date + "/f1.json"})
	require.NoError(t, err)
	require.EqualValues(t, 1, calls.Load())
}

func TestUnclassifiedIsTriedAgainAndSucceeds(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	r := setup(t, options{}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
		if calls.Add(1) < 3 {
			return nil, errors.New("not now")
		}
		require.Equal(t, 3, in.Attempt)
		require.Equal(t, "LLM_VALIDATE", in.Origin.Stream)
		return next(in), nil
	}))
	r.send(envelope("f1"))
	out := r.until("LLM_ENRICH", 1)[0]
	require.Equal(t, "1", out.Header[contract.HeaderAttempt], "attempts are counted per stage")
	r.until(contract.StreamRetry, 1) // the archive timer alone
	require.Empty(t, r.all(contract.StreamDLQ))
}

func TestAttemptsThatAreSpent(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		handle handle
		want   contract.Reason
	}{
		{"errors give exhausted", func(context.Context, *doc.Document) ([]stage.Output, error) {
			return nil, errors.New("no")
		}, contract.ReasonExhausted},
		{"a named reason stands", func(context.Context, *doc.Document) ([]stage.Output, error) {
			return nil, fault.RetryAfter(contract.ReasonBlocked, errors.New("no"), 0)
		}, contract.ReasonBlocked},
		{"timeouts give timeout", func(ctx context.Context, _ *doc.Document) ([]stage.Output, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, contract.ReasonTimeout},
		{"panics give panic", func(context.Context, *doc.Document) ([]stage.Output, error) {
			panic("boom")
		}, contract.ReasonPanic},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int64
			r := setup(t, options{config: func(c *stage.Config) { c.HandleTimeout = 50 * time.Millisecond }},
				handle(func(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
					calls.Add(1)
					return tt.handle(ctx, in)
				}))
			r.send(envelope("f1"))
			dead := r.until(contract.StreamDLQ, 1)[0]
			require.Equal(t, "llm.dlq.validate."+string(tt.want), dead.Subject)
			require.Equal(t, "4", dead.Header[contract.HeaderAttempt])
			require.Equal(t, "llm.validate.normal.job_extraction.openai", dead.Header[contract.HeaderOriginSubject])
			require.EqualValues(t, 4, calls.Load())
		})
	}
}

// gaveUp is a handler whose failures are answers.
type gaveUp struct{ handle }

func (gaveUp) GaveUp(in *doc.Document, reason contract.Reason, _ error) []stage.Output {
	out := in.Next()
	out.Answer = &doc.Answer{Source: in.Source, Status: doc.SourceStatus(reason)}
	return []stage.Output{{To: contract.Enrich, Doc: out}}
}

func TestWhatAHandlerGivesUpIsPublishedInstead(t *testing.T) {
	t.Parallel()
	r := setup(t, options{}, gaveUp{func(context.Context, *doc.Document) ([]stage.Output, error) {
		return nil, fault.New(contract.ReasonBlocked, "no")
	}})
	r.send(envelope("f1"))
	require.Contains(t, string(r.until("LLM_ENRICH", 1)[0].Body), `"status":"blocked"`)
	require.Empty(t, r.all(contract.StreamDLQ))
	_, err := r.ledger.Read(t.Context(), "f1")
	require.ErrorIs(t, err, bus.ErrNotFound, "it takes no terminal state")
}

func TestWaitingIsNoAttempt(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	r := setup(t, options{}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
		require.Equal(t, 1, in.Attempt)
		if calls.Add(1) <= 6 {
			return nil, fault.Wait(errors.New("not there yet"), time.Millisecond)
		}
		return next(in), nil
	}))
	r.send(envelope("f1"))
	r.until("LLM_ENRICH", 1)
}

func TestADependencyThatIsDownCostsNoAttemptAndStopsIntake(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	down.Store(true)
	var seen atomic.Int64
	r := setup(t, options{config: func(c *stage.Config) { c.MaxConcurrentTasks = 1 }},
		handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
			seen.Add(1)
			if down.Load() {
				return nil, fault.Down(errors.New("no connection"))
			}
			return next(in), nil
		}))
	for _, id := range []string{"f1", "f2", "f3"} {
		r.send(envelope(id))
	}
	require.Eventually(t, func() bool { return seen.Load() >= 3 }, waitFor, time.Millisecond, "the one in hand is tried again")
	require.Contains(t, r.runner.Ready(t.Context()), "dependency")
	down.Store(false)
	for _, m := range r.until("LLM_ENRICH", 3) {
		require.Equal(t, "1", m.Header[contract.HeaderAttempt])
	}
	require.Empty(t, r.all(contract.StreamDLQ))
	require.Empty(t, r.runner.Ready(t.Context()))
}

func TestAStoreThatIsDownHoldsTheInput(t *testing.T) {
	t.Parallel()
	r := setup(t, options{}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
		outs := next(in)
		outs[0].Objects = in.Views(contract.ClassValidated, []byte("{}"))
		return outs, nil
	}))
	r.store.down.Store(true)
	r.send(envelope("f1"))
	r.until("LLM_ENRICH", 1) // publishing runs beside storing
	require.Eventually(t, func() bool { return r.store.puts.Load() > 2 }, waitFor, time.Millisecond)
	require.Len(t, r.all("LLM_VALIDATE"), 1, "the input is not acknowledged before its objects are stored")
	r.store.down.Store(false)
	r.until("LLM_VALIDATE", 0)
	require.Len(t, r.all("LLM_ENRICH"), 1)
}

func TestAFullNextQueueHoldsTheInput(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	r := setup(t, options{topology: topology.Options{QueueMessages: 4}},
		handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
			calls.Add(1)
			return next(in), nil
		}))
	for i := range 4 {
		_, err := r.bus.Publish(t.Context(), bus.Message{Subject: "llm.enrich.low.x.y", Body: []byte{byte('0' + i)}})
		require.NoError(t, err)
	}
	r.send(envelope("f1"))
	require.Eventually(t, func() bool { return len(r.runner.Ready(t.Context())) > 0 }, waitFor, time.Millisecond)
	require.NoError(t, r.bus.Delete(t.Context(), "LLM_ENRICH", 1))
	r.until("LLM_VALIDATE", 0)
	require.EqualValues(t, 1, calls.Load(), "the publish is repeated, not the work")
	require.Len(t, r.all(contract.StreamRetry), 1, "no schedule but the archive timer's")
}

func TestStoppingHandsBackAndCountsNothing(t *testing.T) {
	t.Parallel()
	began := make(chan struct{}, 1)
	b := bustest.JetStream(t, topology.Options{})
	o := options{bus: b, config: func(c *stage.Config) { c.DrainTimeout = time.Millisecond; c.HandleTimeout = waitFor }}
	r := setup(t, o, handle(func(ctx context.Context, _ *doc.Document) ([]stage.Output, error) {
		began <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	r.send(envelope("f1"))
	<-began
	r.stop()
	second := setup(t, options{bus: b}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
		require.Equal(t, 1, in.Attempt)
		return next(in), nil
	}))
	second.until("LLM_ENRICH", 1)
	require.Empty(t, second.all(contract.StreamDLQ))
}

func TestTheTerminalStateIsTakenOnce(t *testing.T) {
	t.Parallel()
	r := setup(t, options{}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
		if in.Replay == 0 && in.Name == "bad.json" {
			return nil, fault.New(contract.ReasonSchema, "bad")
		}
		return []stage.Output{{Subject: contract.CompletedSubject("job_extraction", "openai"), Body: []byte("{}"), Terminal: true}}, nil
	}))
	r.send(envelope("f1"))
	r.until(contract.StreamCompleted, 1)
	r.until("LLM_VALIDATE", 0)
	r.send(envelope("f1")) // the same work once more
	r.until("LLM_VALIDATE", 0)
	bad := envelope("f1")
	bad.Name = "bad.json" // and a try to end it otherwise
	r.send(bad)
	r.until("LLM_VALIDATE", 0)
	require.Len(t, r.all(contract.StreamCompleted), 1)
	require.Empty(t, r.all(contract.StreamDLQ))

	replay := envelope("f1")
	replay.Replay = 1
	r.send(replay)
	r.until(contract.StreamCompleted, 2)
	r.until("LLM_VALIDATE", 0)
	r.send(envelope("f1"))
	r.until("LLM_VALIDATE", 0)
	require.Len(t, r.all(contract.StreamCompleted), 2, "a lower replay count loses")
}

func TestALargeBodyTravelsByClaimCheck(t *testing.T) {
	t.Parallel()
	large := `{"jobs":[{"title":"` + strings.Repeat("x", 300<<10) + `"}]}`
	r := setup(t, options{config: func(c *stage.Config) { c.ClaimCheckBytes = 1 << 10 }},
		handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
			if in.Object != "" {
				require.Equal(t, large, string(in.Content))
				return []stage.Output{{To: contract.Standardize, Doc: in.Next()}}, nil
			}
			out := in.Next()
			out.Content = []byte(large)
			return []stage.Output{{To: contract.Validate, Doc: out}}, nil
		}))
	r.send(envelope("f1"))
	m := r.until("LLM_STANDARDIZE", 1)[0]
	require.Less(t, len(m.Body), 1<<10)
	require.True(t, strings.HasPrefix(m.Header[contract.HeaderObject], "llm-processed/_claim/f1/"))
}

func TestAMissingClaimIsADeadLetterOfItsOwnKind(t *testing.T) {
	t.Parallel()
	r := setup(t, options{}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) { return next(in), nil }))
	d := envelope("f1")
	d.Object = "llm-processed/_claim/f1/gone.json"
	r.send(d)
	outside := envelope("f2")
	outside.Object = "llm-raw/by_date/2025-01-27/x.json"
	r.send(outside)
	var subjects []string
	for _, m := range r.until(contract.StreamDLQ, 2) {
		subjects = append(subjects, m.Subject)
	}
	require.ElementsMatch(t, []string{"llm.dlq.validate.missing_object", "llm.dlq.validate.malformed"}, subjects)
}

func TestWhatCannotBeReadIsMalformed(t *testing.T) {
	t.Parallel()
	r := setup(t, options{}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) { return next(in), nil }))
	_, err := r.bus.Publish(t.Context(), bus.Message{Subject: "llm.validate.high.x.y", Body: []byte("not JSON")})
	require.NoError(t, err)
	_, err = r.bus.Publish(t.Context(), bus.Message{
		Subject: "llm.validate.high.x.y", Body: []byte("{"), Header: bus.Header{contract.HeaderFileID: "../x"},
	})
	require.NoError(t, err)
	for _, m := range r.until(contract.StreamDLQ, 2) {
		require.Equal(t, "llm.dlq.validate.malformed", m.Subject)
		require.True(t, doc.ValidID(m.Header[contract.HeaderFileID]))
	}
	r.until("LLM_VALIDATE", 0)
}

func TestATimerComesBackToItsStage(t *testing.T) {
	t.Parallel()
	r := setup(t, options{}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
		if in.Timer == contract.TimerJoin {
			require.Equal(t, "f1~join", in.WorkID())
			require.Equal(t, "f1", in.Metadata.FileID)
			return next(in), nil
		}
		out := in.Next()
		out.Timer = contract.TimerJoin
		return []stage.Output{{To: contract.Validate, Doc: out, At: time.Now().Add(time.Millisecond)}}, nil
	}))
	r.send(envelope("f1"))
	r.until("LLM_ENRICH", 1)
}

func TestAFullDeadLetterQueueStopsTheStage(t *testing.T) {
	t.Parallel()
	r := setup(t, options{}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
		if strings.HasPrefix(in.Metadata.FileID, "bad") {
			return nil, fault.New(contract.ReasonSchema, "bad")
		}
		return next(in), nil
	}))
	dlq, err := r.bus.JetStream().Stream(t.Context(), contract.StreamDLQ)
	require.NoError(t, err)
	c := dlq.CachedInfo().Config
	c.MaxMsgs = 1
	_, err = r.bus.JetStream().UpdateStream(t.Context(), c)
	require.NoError(t, err)

	r.send(envelope("bad1"))
	r.until(contract.StreamDLQ, 1)
	r.send(envelope("bad2"))
	require.Eventually(t, func() bool { return len(r.runner.Ready(t.Context())) > 0 }, waitFor, time.Millisecond)
	r.send(envelope("good"))
	require.Len(t, r.all(contract.StreamDLQ), 1)
	require.NoError(t, r.bus.Delete(t.Context(), contract.StreamDLQ, 1))
	require.Equal(t, "bad2", r.until(contract.StreamDLQ, 1)[0].Header[contract.HeaderFileID])
	r.until("LLM_ENRICH", 1)
	r.until("LLM_VALIDATE", 0)
}
