package stage_test

import (
	"context"
	"errors"
	"fmt"
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

func TestARawMessageThatFailsBeforeALaneIsChosenComesBack(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	r := setup(t, options{stage: contract.Ingest}, handle(func(context.Context, *doc.Document) ([]stage.Output, error) {
		if n.Add(1) == 1 {
			return nil, errors.New("once")
		}
		return nil, nil
	}))
	_, err := r.bus.Publish(t.Context(), bus.Message{Subject: "llm.raw.job_extraction.openai", Body: []byte(`{}`)})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return n.Load() == 2 }, waitFor, time.Millisecond)
}

func TestOneRetryNeverReplacesAnother(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	seen := make(chan string, 10)
	r := setup(t, options{stage: contract.Ingest, config: func(c *stage.Config) { c.RetryFirst = time.Second }},
		handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
			in.Lane = contract.Low
			if n.Add(1) <= 2 {
				return nil, errors.New("once each")
			}
			seen <- string(in.Body)
			return nil, nil
		}))
	for _, body := range []string{"one", "two"} {
		_, err := r.bus.Publish(t.Context(), bus.Message{Subject: "llm.raw.job_extraction.openai", Header: bus.Header{"Llm-File-Id": "X"}, Body: []byte(body)})
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return len(seen) == 2 }, waitFor, time.Millisecond)
}

func TestAnEndThatWasTakenAsDeadIsPublished(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{})
	l, err := ledger.OpenLedger(t.Context(), b, time.Hour, time.Now)
	require.NoError(t, err)
	_, _, err = l.Open(t.Context(), "f1", ledger.Entry{SHA256: "00", Owner: ledger.Owner{Stream: "LLM_RAW", Seq: 1, Time: time.Now()}})
	require.NoError(t, err)
	// The process dies between taking the state and publishing the dead letter; the second
	// delivery would succeed.
	_, _, err = l.Take(t.Context(), "f1", ledger.Holder{WorkID: "f1", Kind: ledger.Dead}, ledger.Entry{Stage: contract.Validate, Reason: contract.ReasonExhausted})
	require.NoError(t, err)
	sender := &rig{t: t, bus: b}
	sender.send(envelope("f1"))
	deliver(t, b, 1)
	r := setup(t, options{bus: b}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) { return next(in), nil }))
	r.until("LLM_VALIDATE", 0)
	require.Len(t, r.all(contract.StreamDLQ), 1)
	require.Empty(t, r.all("LLM_ENRICH"))
}

// answers is a handler whose failures are answers of a source.
type answers struct{ handle }

func (answers) GaveUp(in *doc.Document, _ contract.Reason, _ error) []stage.Output {
	d := in.Next()
	d.Envelope = doc.Envelope{Metadata: in.Metadata, Routing: in.Routing, Answer: &doc.Answer{Source: in.Source}}
	return []stage.Output{{To: contract.Aggregate, Doc: d}}
}

func TestAScrapeTaskWithoutItsBody(t *testing.T) {
	t.Parallel()
	r := setup(t, options{stage: contract.Scrape}, answers{func(context.Context, *doc.Document) ([]stage.Output, error) {
		return nil, fault.New(contract.ReasonBlocked, "x")
	}})
	d := envelope("f1")
	d.Source, d.Object = "greenhouse", "llm-processed/_claim/f1/gone.json"
	body, err := d.Encode()
	require.NoError(t, err)
	_, err = r.bus.Publish(t.Context(), bus.Message{Subject: "llm.scrape.normal.job_extraction.greenhouse", Header: d.Headers(contract.Route), Body: body})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(r.all("LLM_SCRAPE")) == 0 }, waitFor, time.Millisecond)
}

func TestASweptScrapeTaskWithAClaim(t *testing.T) {
	t.Parallel()
	testSwept(t, contract.Scrape, "LLM_SCRAPE", "scrape-normal", "llm.scrape.normal.job_extraction.greenhouse", func() bus.Header {
		d := envelope("f1")
		d.Source, d.Object = "greenhouse", "llm-processed/_claim/f1/there.json"
		return d.Headers(contract.Route)
	}())
}

func TestASweptRawMessageMayHaveAnIDThatIsNone(t *testing.T) {
	t.Parallel()
	for name, id := range map[string]string{"with a blank": "a b", "with dots": "a..b"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testSwept(t, contract.Ingest, "LLM_RAW", "ingest-normal", "llm.raw.job_extraction.openai", bus.Header{contract.HeaderFileID: id})
		})
	}
}

// testSwept lets the broker give up a message that ran alone, and expects it to end.
func testSwept(t *testing.T, s contract.Stage, stream, consumer, subject string, h bus.Header) {
	t.Helper()
	b := bustest.JetStream(t, topology.Options{MaxDeliver: 2})
	_, err := b.Publish(t.Context(), bus.Message{Subject: subject, Header: h, Body: []byte(`{"metadata":{}}`)})
	require.NoError(t, err)
	ranAlone(t, b, s, stream, consumer)
	h2 := handle(func(context.Context, *doc.Document) ([]stage.Output, error) { return nil, errors.New("x") })
	var handler stage.Handler = h2
	if s == contract.Scrape {
		handler = answers{h2}
	}
	r := setup(t, options{bus: b, stage: s}, handler)
	whole, err := envelope("f1").Encode()
	require.NoError(t, err)
	ref := store.Ref{Bucket: contract.BucketProcessed, Key: contract.ClaimPrefix + "f1/there.json"}
	require.NoError(t, errors.Join(r.store.Put(t.Context(), store.Object{Ref: ref, Body: whole})...))
	r.until(stream, 0)
}

// ranAlone delivers a message as often as the broker does at most, and marks it as one that
// ran alone.
func ranAlone(t *testing.T, b *bus.JetStream, s contract.Stage, stream, consumer string) {
	t.Helper()
	times := make(chan bus.Delivery, 2)
	sub, err := b.Consume(t.Context(), stream, consumer, 1, func(d bus.Delivery) { times <- d })
	require.NoError(t, err)
	var seq uint64
	for range 2 {
		d := <-times
		seq = d.Message().Seq
		require.NoError(t, d.Nak())
	}
	sub.Stop()
	kv, err := b.KV(t.Context(), contract.KVCache)
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), fmt.Sprintf("alone.%s.%d", stream, seq), []byte(s), time.Minute)
	require.NoError(t, err)
}

func TestASweptTimerIsNoDeadLetter(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{MaxDeliver: 2})
	_, err := b.Publish(t.Context(), bus.Message{
		Subject: contract.DueSubject(contract.Archive, contract.Low), Header: bus.Header{contract.HeaderTimer: contract.CronArchive},
	})
	require.NoError(t, err)
	ranAlone(t, b, contract.Archive, contract.StreamRetry, contract.DueConsumer(contract.Archive))
	r := setup(t, options{bus: b, stage: contract.Archive}, handle(func(context.Context, *doc.Document) ([]stage.Output, error) { return nil, nil }))
	r.until(contract.StreamRetry, 1) // the schedule of the timer alone
	require.Empty(t, r.all(contract.StreamDLQ))
}

func TestARecordEntersTheWholeIdentity(t *testing.T) {
	t.Parallel()
	r := setup(t, options{}, handle(func(context.Context, *doc.Document) ([]stage.Output, error) {
		return []stage.Output{{Subject: contract.CompletedSubject("job_extraction", "openai"), Body: []byte("{}"), Terminal: true}}, nil
	}))
	d := envelope("f1")
	d.Attempt = 3
	r.send(d)
	record := r.until(contract.StreamCompleted, 1)[0]
	r.until("LLM_VALIDATE", 0)
	require.Equal(t, "1", record.Header[contract.HeaderAttempt], "attempts begin anew on every output")
	e, err := r.ledger.Read(t.Context(), "f1")
	require.NoError(t, err)
	require.Equal(t, d.Metadata.CreatedAt, e.CreatedAt)
	require.Equal(t, "f1.json", e.Name)
}

func TestAnEndThatWasTakenAsCompletedMayStillBeADeadLetter(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{})
	l, err := ledger.OpenLedger(t.Context(), b, time.Hour, time.Now)
	require.NoError(t, err)
	// The process dies between taking the state and publishing; the second time it fails for good.
	_, _, err = l.Take(t.Context(), "f1", ledger.Holder{WorkID: "f1", Kind: ledger.Completed}, ledger.Entry{Stage: contract.Validate})
	require.NoError(t, err)
	sender := &rig{t: t, bus: b}
	sender.send(envelope("f1"))
	deliver(t, b, 1)
	r := setup(t, options{bus: b}, handle(func(context.Context, *doc.Document) ([]stage.Output, error) {
		return nil, fault.New(contract.ReasonMissingObject, "gone")
	}))
	r.until("LLM_VALIDATE", 0)
	require.Len(t, r.all(contract.StreamDLQ), 1)
	require.Empty(t, r.all(contract.StreamCompleted))
}
