package stage_test

import (
	"context"
	"errors"
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

// ingest fails before it has chosen a lane.
func TestIngestFailsOnceBeforeALaneIsChosen(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	r := setup(t, options{stage: contract.Ingest}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
		if n.Add(1) == 1 {
			return nil, errors.New("once")
		}
		return nil, nil
	}))
	_, err := r.bus.Publish(t.Context(), bus.Message{Subject: "llm.raw.job_extraction.openai", Body: []byte(`{}`)})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return n.Load() == 2 }, 4*time.Second, 10*time.Millisecond)
}

// two raw messages with one file_id both fail for now.
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

// the process dies between taking the terminal state as dead and the dead letter; the second delivery succeeds.
func TestTakenAsDeadThenSucceeds(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{})
	l, err := ledger.OpenLedger(t.Context(), b, time.Hour, time.Now)
	require.NoError(t, err)
	_, _, err = l.Open(t.Context(), "f1", ledger.Entry{SHA256: "00", Owner: ledger.Owner{Stream: "LLM_RAW", Seq: 1, Time: time.Now()}})
	require.NoError(t, err)
	// first delivery: validate's last attempt failed, it took the state, LLM_DLQ was full, the process was restarted
	_, _, err = l.Take(t.Context(), "f1", ledger.Holder{WorkID: "f1", Kind: ledger.Dead}, ledger.Entry{Stage: contract.Validate, Reason: contract.ReasonExhausted})
	require.NoError(t, err)
	sender := &rig{t: t, bus: b}
	sender.send(envelope("f1"))
	deliver(t, b, 1)
	r := setup(t, options{bus: b}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) { return next(in), nil }))
	r.until("LLM_VALIDATE", 0)
	if len(r.all("LLM_DLQ")) == 0 { // it went on: play the archive stage
		require.Len(t, r.all("LLM_ENRICH"), 1)
		claim, _, err := l.Take(t.Context(), "f1", ledger.Holder{WorkID: "f1", Kind: ledger.Completed}, ledger.Entry{Stage: contract.Archive})
		require.NoError(t, err)
		require.Equal(t, ledger.Won, claim, "archive lost, and there is no dead letter: the document ends nowhere")
	}
}

type answers struct{ handle }

func (answers) GaveUp(in *doc.Document, _ contract.Reason, cause error) []stage.Output {
	d := in.Next()
	d.Envelope = doc.Envelope{Metadata: in.Metadata, Routing: in.Routing, Answer: &doc.Answer{Source: in.Source}}
	return []stage.Output{{To: contract.Aggregate, Doc: d}}
}

// a scrape task whose body is a claim check that is gone, or cannot be read.
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
	require.Eventually(t, func() bool { return len(r.all("LLM_SCRAPE")) == 0 }, 4*time.Second, 10*time.Millisecond)
}

// the same, swept: the claim is there and the process died on it.
func TestASweptScrapeTaskWithAClaim(t *testing.T) {
	t.Parallel()
	testSwept(t, contract.Scrape, "LLM_SCRAPE", "scrape-normal", "llm.scrape.normal.job_extraction.greenhouse", func() bus.Header {
		d := envelope("f1")
		d.Source, d.Object = "greenhouse", "llm-processed/_claim/f1/there.json"
		return d.Headers(contract.Route)
	}())
}

// a raw message with an id that is none, swept.
func TestASweptRawMessage(t *testing.T) {
	t.Parallel()
	for name, id := range map[string]string{"bad id": "a b", "dots": "a..b"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testSwept(t, contract.Ingest, "LLM_RAW", "ingest-normal", "llm.raw.job_extraction.openai", bus.Header{"Llm-File-Id": id})
		})
	}
}

func testSwept(t *testing.T, s contract.Stage, stream, consumer, subject string, h bus.Header) {
	b := bustest.JetStream(t, topology.Options{MaxDeliver: 2})
	_, err := b.Publish(t.Context(), bus.Message{Subject: subject, Header: h, Body: []byte(`{"metadata":{}}`)})
	require.NoError(t, err)
	times := make(chan bus.Delivery, 2)
	sub, err := b.Consume(t.Context(), stream, consumer, 1, func(d bus.Delivery) { times <- d })
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, (<-times).Nak())
	}
	sub.Stop()
	kv, err := b.KV(t.Context(), contract.KVCache)
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), "alone."+stream+".1", []byte(s), time.Minute)
	require.NoError(t, err)
	r := setup(t, options{bus: b, stage: s}, gaveUpAt(s))
	env := envelope("f1")
	whole, err := env.Encode()
	require.NoError(t, err)
	r.store.Put(t.Context(), store.Object{Ref: store.Ref{Bucket: "llm-processed", Key: "_claim/f1/there.json"}, Body: whole})
	require.Eventually(t, func() bool { return len(r.all(stream)) == 0 }, 5*time.Second, 10*time.Millisecond)
}

func gaveUpAt(s contract.Stage) stage.Handler {
	h := handle(func(context.Context, *doc.Document) ([]stage.Output, error) { return nil, errors.New("x") })
	if s == contract.Scrape {
		return answers{h}
	}
	return h
}

// a timer's message that was delivered too often is no document.
func TestASweptTimerIsNoDeadLetter(t *testing.T) {
	t.Parallel()
	testTimer(t)
}

func testTimer(t *testing.T) {
	b := bustest.JetStream(t, topology.Options{MaxDeliver: 2})
	_, err := b.Publish(t.Context(), bus.Message{Subject: "llm.due.archive.low", Header: bus.Header{"Llm-Timer": "archive"}})
	require.NoError(t, err)
	times := make(chan bus.Delivery, 2)
	sub, err := b.Consume(t.Context(), "LLM_RETRY", "archive-due", 1, func(d bus.Delivery) { times <- d })
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
	_, err = kv.Put(t.Context(), "alone.LLM_RETRY."+itoa(seq), []byte("archive"), time.Minute)
	require.NoError(t, err)
	r := setup(t, options{bus: b, stage: contract.Archive}, handle(func(context.Context, *doc.Document) ([]stage.Output, error) { return nil, nil }))
	time.Sleep(3 * time.Second)
	for _, m := range r.all("LLM_DLQ") {
		t.Errorf("%s %v", m.Subject, m.Header)
	}
}

func itoa(n uint64) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}

// a record of a document that the ledger has forgotten.
func TestARecordEntersTheWholeIdentity(t *testing.T) {
	t.Parallel()
	r := setup(t, options{}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
		return []stage.Output{{Subject: "llm.completed.job_extraction.openai", Body: []byte("{}"), Terminal: true, Doc: in}}, nil
	}))
	d := envelope("f1")
	d.Attempt = 3
	r.send(d)
	m := r.until("LLM_COMPLETED", 1)[0]
	r.until("LLM_VALIDATE", 0)
	e, err := r.ledger.Read(t.Context(), "f1")
	require.NoError(t, err)
	if e.CreatedAt.IsZero() {
		t.Errorf("created_at is lost: %+v", e)
	}
	if m.Header["Llm-Attempt"] != "1" {
		t.Errorf("DESIGN 3: Llm-Attempt is from 1 again on every output, is %s", m.Header["Llm-Attempt"])
	}
}

// archive took the state, did not publish, and fails for good the second time.
func TestTakenAsCompletedThenFails(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{})
	l, err := ledger.OpenLedger(t.Context(), b, time.Hour, time.Now)
	require.NoError(t, err)
	_, _, err = l.Take(t.Context(), "f1", ledger.Holder{WorkID: "f1", Kind: ledger.Completed}, ledger.Entry{Stage: contract.Validate})
	require.NoError(t, err)
	sender := &rig{t: t, bus: b}
	sender.send(envelope("f1"))
	deliver(t, b, 1)
	r := setup(t, options{bus: b}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
		return nil, fault.New(contract.ReasonMissingObject, "gone")
	}))
	r.until("LLM_VALIDATE", 0)
	require.Equal(t, 1, len(r.all("LLM_DLQ"))+len(r.all("LLM_COMPLETED")))
}
