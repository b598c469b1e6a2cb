//go:build integration

// Package integration runs the real binaries as separate processes, kills them under load
// and checks from outside that nothing is lost and nothing comes twice.
package integration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

const (
	publishers = 16               // who publish at the same time
	endWait    = 8 * time.Minute  // for all documents to end after the last fault
	startWait  = 30 * time.Second // for a process to be ready
	poll       = 50 * time.Millisecond
)

// sent is a document that the broker accepted.
type sent struct {
	id, task, provider string
	body               []byte
}

// document makes document number i: three in four are extractions, some as a provider
// answers, every fourth is a search.
func document(i int) sent {
	s := sent{id: fmt.Sprintf("doc-%05d", i), task: "job_extraction", provider: "openai"}
	at := time.Date(2025, 1, 27, 14, 0, i, 0, time.UTC).Format(time.RFC3339)
	job := fmt.Sprintf(`{"title":"Engineer %d","company":"Company %d","location":"Sydney"}`, i, i)
	switch i % 4 {
	case 0:
		s.task, s.provider = "intent_analysis", "anthropic"
		s.body = fmt.Appendf(nil, `{"metadata":{"created_at":%q,"user_tier":"premium"},"content":{"intent":{"is_job_related":true,"job_title":"engineer","location":"Sydney"}}}`, at)
	case 1:
		s.body = fmt.Appendf(nil, `{"object":"chat.completion","choices":[{"message":{"content":%q}}]}`, `{"jobs":[`+job+`]}`)
	default:
		s.body = fmt.Appendf(nil, `{"metadata":{"created_at":%q},"content":{"jobs":[%s,%s]}}`, at, job, job)
	}
	return s
}

// connect reaches the broker at addr, waiting until it is there.
func connect(t *testing.T, addr string) *bus.JetStream {
	t.Helper()
	b, err := bus.Connect(t.Context(), bus.Settings{URL: "nats://" + addr, Name: "load", FirstWait: startWait, Log: zerolog.Nop()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() }) // the broker may be gone by then
	return b
}

// publish publishes documents and repeats each under the same id until the broker has
// accepted it, whatever happens to the broker meanwhile.
func publish(ctx context.Context, b *bus.JetStream, first, n int) ([]sent, error) {
	var mu sync.Mutex
	var all []sent
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(publishers)
	for i := first; i < first+n; i++ {
		g.Go(func() error {
			s := document(i)
			for {
				_, err := b.Publish(ctx, bus.Message{
					Subject: contract.RawSubject(s.task, s.provider, ""), ID: s.id,
					Header: bus.Header{contract.HeaderFileID: s.id}, Body: s.body,
				})
				if err == nil {
					mu.Lock()
					all = append(all, s)
					mu.Unlock()
					return nil
				}
				select {
				case <-ctx.Done():
					return errors.Join(err, ctx.Err())
				case <-time.After(poll):
				}
			}
		})
	}
	return all, g.Wait()
}

// completed counts the terminal records, -1 while the broker does not answer.
func completed(ctx context.Context, b *bus.JetStream) int {
	info, err := b.Info(ctx, contract.StreamCompleted)
	if err != nil {
		return -1
	}
	return int(info.Messages)
}

// reach waits until at least n documents have completed.
func reach(t *testing.T, b *bus.JetStream, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return completed(t.Context(), b) >= n }, endWait, poll, "%d documents completed", n)
}

// emptied waits until no stage has anything left to do.
func emptied(t *testing.T, b *bus.JetStream) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, s := range contract.Stages() {
			info, err := b.Info(t.Context(), contract.StageStream(s))
			if err != nil || info.Messages > 0 {
				return false
			}
		}
		return true
	}, endWait, poll, "all queues are empty")
}

// check proves, from outside, the invariants: one terminal state per accepted document, raw
// bytes equal to what was sent, every object named by a record present, no duplicate in a
// result.
func check(t *testing.T, b *bus.JetStream, s store.Store, all []sent) {
	t.Helper()
	for m, err := range b.Scan(t.Context(), contract.StreamDLQ, "", 0) {
		require.NoError(t, err)
		t.Errorf("dead letter %s: %s", m.Header[contract.HeaderFileID], m.Header[contract.HeaderError])
	}
	records := map[string]doc.Record{}
	for m, err := range b.Scan(t.Context(), contract.StreamCompleted, "", 0) {
		require.NoError(t, err)
		id := m.Header[contract.HeaderFileID]
		if _, twice := records[id]; twice {
			t.Errorf("%s has two terminal records", id)
		}
		var r doc.Record
		require.NoError(t, codec.Unmarshal(m.Body, &r))
		records[id] = r
	}
	require.Len(t, records, len(all))
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(publishers)
	for _, d := range all {
		g.Go(func() error { return intact(ctx, s, d, records[d.id]) })
	}
	require.NoError(t, g.Wait())
}

// intact checks the objects of one document.
func intact(ctx context.Context, s store.Store, d sent, r doc.Record) error {
	const named = 13 // four classes in three views, and the result
	if len(r.Objects) < named {
		return fmt.Errorf("%s: the record names %d objects", d.id, len(r.Objects))
	}
	raw := 0
	for _, ref := range r.Objects {
		o, err := s.Get(ctx, ref)
		if err != nil {
			return fmt.Errorf("%s: %w", d.id, err)
		}
		if ref.Bucket == contract.BucketRaw {
			raw++
			if string(o.Body) != string(d.body) {
				return fmt.Errorf("%s: %s is not what was sent", d.id, ref)
			}
		}
	}
	if raw != len(contract.Views()) {
		return fmt.Errorf("%s: %d raw objects", d.id, raw)
	}
	o, err := s.Get(ctx, *r.Result)
	if err != nil {
		return fmt.Errorf("%s: %w", d.id, err)
	}
	var result struct {
		Jobs []doc.JobPosting `json:"jobs"`
	}
	if err := codec.Unmarshal(o.Body, &result); err != nil {
		return fmt.Errorf("%s: %w", d.id, err)
	}
	seen := map[string]bool{}
	for _, j := range result.Jobs {
		key := j.Title + "|" + j.Source + "|" + j.Identifier
		if seen[key] || seen[j.JobID] {
			return fmt.Errorf("%s: %q stands twice in the result", d.id, j.Title)
		}
		seen[key], seen[j.JobID] = true, true
	}
	return nil
}
