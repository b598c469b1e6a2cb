package bustest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/topology"
)

func runRedeliver(t *testing.T, newBus Maker) {
	tests := []struct {
		name string
		o    topology.Options
		run  func(t *testing.T, b bus.Bus)
	}{
		{"a message given back comes again at once", topology.Options{}, naks},
		{"a message that nobody settles comes again and frees its credit", topology.Options{AckWait: shortAckWait}, misses},
		{"progress keeps a message", topology.Options{AckWait: shortAckWait}, progresses},
		{"a late acknowledgement still counts", topology.Options{AckWait: shortAckWait}, acksLate},
		{"a message delivered too often is kept and an advisory tells of it", topology.Options{MaxDeliver: 3}, gives},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, newBus(t, tt.o))
		})
	}
}

func naks(t *testing.T, b bus.Bus) {
	publish(t, b, 1)
	c := consume(t, b, stream, consumer, 1)
	start := time.Now()
	for count := 1; count < 5; count++ {
		d := next(t, c)
		require.Equal(t, count, d.Count())
		require.NoError(t, d.Nak())
	}
	require.Less(t, time.Since(start), 4*time.Second)
	require.NoError(t, next(t, c).Ack(t.Context()))
	require.Zero(t, messages(t, b, stream))
}

func misses(t *testing.T, b bus.Bus) {
	publish(t, b, 1)
	c := consume(t, b, stream, consumer, 1)
	start := time.Now()
	first := next(t, c)
	second := next(t, c)
	require.GreaterOrEqual(t, time.Since(start), shortAckWait*9/10)
	require.Equal(t, first.Message().Seq, second.Message().Seq)
	require.Equal(t, 2, second.Count())
	require.NoError(t, second.Ack(t.Context()))
	require.Zero(t, messages(t, b, stream))
	publish(t, b, 1)
	require.EqualValues(t, 2, next(t, c).Message().Seq)
}

func progresses(t *testing.T, b bus.Bus) {
	publish(t, b, 1)
	c := consume(t, b, stream, consumer, 2)
	d := next(t, c)
	for range 8 {
		require.NoError(t, d.Progress())
		silent(t, c, shortAckWait/3)
	}
	require.NoError(t, d.Ack(t.Context()))
	silent(t, c, 2*shortAckWait)
	require.Zero(t, messages(t, b, stream))
}

func acksLate(t *testing.T, b bus.Bus) {
	publish(t, b, 1)
	c := consume(t, b, stream, consumer, 2)
	first := next(t, c)
	second := next(t, c)
	require.NoError(t, first.Ack(t.Context()))
	require.Zero(t, messages(t, b, stream))
	require.NoError(t, second.Ack(t.Context()), "harmless")
	silent(t, c, 2*shortAckWait)
}

func gives(t *testing.T, b bus.Bus) {
	publish(t, b, 1)
	c := consume(t, b, stream, consumer, 4)
	for range 3 {
		require.NoError(t, next(t, c).Nak())
	}
	advisories := consume(t, b, contract.StreamAdvisory, contract.AdvisoryConsumer(stage), 1)
	a := next(t, advisories)
	require.Equal(t, contract.MaxDeliveriesAdvisory+"."+stream+"."+consumer, a.Message().Subject)
	var told struct {
		Stream     string `json:"stream"`
		Consumer   string `json:"consumer"`
		Seq        uint64 `json:"stream_seq"`
		Deliveries int    `json:"deliveries"`
	}
	require.NoError(t, json.Unmarshal(a.Message().Body, &told))
	require.Equal(t, stream, told.Stream)
	require.Equal(t, consumer, told.Consumer)
	require.EqualValues(t, 1, told.Seq)
	require.Equal(t, 3, told.Deliveries)
	require.NoError(t, a.Ack(t.Context()))
	require.EqualValues(t, 1, messages(t, b, contract.StreamAdvisory), "advisories stay for their time")
	silent(t, c, quiet)
	m, err := b.Get(t.Context(), told.Stream, told.Seq)
	require.NoError(t, err)
	require.Equal(t, "body 0", string(m.Body))
	require.NoError(t, b.Delete(t.Context(), told.Stream, told.Seq))
	require.Zero(t, messages(t, b, stream))
}
