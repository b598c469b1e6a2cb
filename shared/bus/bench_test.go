package bus_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/topology"
)

// BenchmarkConsume delivers and acknowledges messages of 1 KiB, each confirmed, with 64 at
// a time, over TCP to a server in the same process.
func BenchmarkConsume(b *testing.B) {
	j := bustest.JetStream(b, topology.Options{})
	fill(b, j, b.N)
	var left sync.WaitGroup
	left.Add(b.N)
	work := make(chan bus.Delivery, 64)
	for range 64 {
		go func() {
			for d := range work {
				if err := d.Ack(context.Background()); err != nil {
					b.Error(err)
				}
				left.Done()
			}
		}()
	}
	b.ReportAllocs()
	b.ResetTimer()
	s, err := j.Consume(b.Context(), stream, consumer, 64, func(d bus.Delivery) { work <- d })
	require.NoError(b, err)
	left.Wait()
	b.StopTimer()
	s.Stop()
	close(work)
}

// BenchmarkPublish publishes messages of 1 KiB one after the other, each confirmed.
func BenchmarkPublish(b *testing.B) {
	j := bustest.JetStream(b, topology.Options{})
	body := make([]byte, 1<<10)
	b.ReportAllocs()
	for b.Loop() {
		_, err := j.Publish(b.Context(), bus.Message{Subject: subject, Body: body, Header: bus.Header{"Llm-File-Id": "a"}})
		require.NoError(b, err)
	}
}

func fill(b *testing.B, j *bus.JetStream, n int) {
	b.Helper()
	m := bus.Message{Subject: subject, Body: make([]byte, 1<<10), Header: bus.Header{"Llm-File-Id": "a", "Llm-Task": "t"}}
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := w; i < n; i += 16 {
				if _, err := j.Publish(context.Background(), m); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
