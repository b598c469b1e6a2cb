package bustest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/topology"
)

func runSchedule(t *testing.T, newBus Maker) {
	tests := []struct {
		name string
		o    topology.Options
		run  func(t *testing.T, b bus.Bus)
	}{
		{"a schedule is delivered at its time with its headers", topology.Options{}, schedules},
		{"a schedule whose time has passed is delivered at once", topology.Options{}, schedulesPast},
		{"a second schedule on a subject replaces the first", topology.Options{}, replaces},
		{"a repeated message comes at each interval", topology.Options{}, repeats},
		{"a repeated message that was deleted comes no more", topology.Options{}, deletesRepeated},
		{"the archive timer runs from the start", topology.Options{ArchiveEvery: time.Second}, timerRuns},
		{"a schedule that cannot work is refused", topology.Options{}, refusesSchedules},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, newBus(t, tt.o))
		})
	}
}

var (
	retrySubject = contract.RetrySubject(stage, "a~indeed", 0)
	dueSubject   = contract.DueSubject(stage, lane)
)

func due(t *testing.T, b bus.Bus, s contract.Stage) <-chan bus.Delivery {
	t.Helper()
	return consume(t, b, contract.StreamRetry, contract.DueConsumer(s), 5)
}

// work returns how many messages wait on retry subjects; the timers of the line are not
// counted.
func work(t *testing.T, b bus.Bus) (n int) {
	t.Helper()
	for _, err := range b.Scan(t.Context(), contract.StreamRetry, contract.RootRetry+".>", 0) {
		require.NoError(t, err)
		n++
	}
	return n
}

func schedules(t *testing.T, b bus.Bus) {
	c := due(t, b, stage)
	at := time.Now().Add(1100 * time.Millisecond)
	err := b.Schedule(t.Context(), bus.Message{
		Subject: retrySubject, Body: []byte("again"),
		Header: bus.Header{contract.HeaderAttempt: "2", contract.HeaderOriginSubject: subject},
	}, at, dueSubject)
	require.NoError(t, err)
	require.Equal(t, 1, work(t, b), "it can be seen while it waits")
	d := next(t, c)
	require.False(t, time.Now().Before(at), "not before its time")
	require.Equal(t, dueSubject, d.Message().Subject)
	require.Equal(t, "again", string(d.Message().Body))
	require.Equal(t, "2", d.Message().Header[contract.HeaderAttempt])
	require.Equal(t, subject, d.Message().Header[contract.HeaderOriginSubject])
	require.Empty(t, d.Message().Header["Nats-Schedule"])
	require.NoError(t, d.Ack(t.Context()))
	silent(t, c, quiet)
	require.Zero(t, work(t, b))
}

func schedulesPast(t *testing.T, b bus.Bus) {
	c := due(t, b, stage)
	err := b.Schedule(t.Context(), bus.Message{Subject: retrySubject, Body: []byte("1")}, time.Now().Add(-time.Hour), dueSubject)
	require.NoError(t, err)
	require.NoError(t, next(t, c).Ack(t.Context()))
}

func replaces(t *testing.T, b bus.Bus) {
	c := due(t, b, stage)
	for _, s := range []struct {
		body  string
		after time.Duration
	}{{"first", 500 * time.Millisecond}, {"second", time.Hour}, {"third", 900 * time.Millisecond}} {
		err := b.Schedule(t.Context(), bus.Message{Subject: retrySubject, Body: []byte(s.body)}, time.Now().Add(s.after), dueSubject)
		require.NoError(t, err)
	}
	other := bus.Message{Subject: contract.RetrySubject(stage, "b", 0), Body: []byte("other")}
	require.NoError(t, b.Schedule(t.Context(), other, time.Now().Add(time.Hour), dueSubject))
	require.Equal(t, 2, work(t, b))
	d := next(t, c)
	require.Equal(t, "third", string(d.Message().Body))
	require.NoError(t, d.Ack(t.Context()))
	silent(t, c, quiet)
	require.Equal(t, 1, work(t, b))
}

func repeats(t *testing.T, b bus.Bus) {
	c := due(t, b, contract.Route)
	target := contract.DueSubject(contract.Route, contract.Low)
	m := bus.Message{Subject: contract.CronSubject("tick"), Body: []byte("{}"), Header: bus.Header{contract.HeaderTimer: "tick"}}
	require.NoError(t, b.Every(t.Context(), m, time.Second, target))
	start := time.Now()
	for range 3 {
		d := next(t, c)
		require.Equal(t, target, d.Message().Subject)
		require.Equal(t, "tick", d.Message().Header[contract.HeaderTimer])
		require.NoError(t, d.Ack(t.Context()))
	}
	require.GreaterOrEqual(t, time.Since(start), 1900*time.Millisecond)
}

func deletesRepeated(t *testing.T, b bus.Bus) {
	c := due(t, b, contract.Route)
	m := bus.Message{Subject: contract.CronSubject("tock"), Body: []byte("{}"), Header: bus.Header{contract.HeaderTimer: "tock"}}
	require.NoError(t, b.Every(t.Context(), m, time.Second, contract.DueSubject(contract.Route, contract.Low)))
	require.NoError(t, next(t, c).Ack(t.Context()))
	held, err := b.Last(t.Context(), contract.StreamRetry, m.Subject)
	require.NoError(t, err)
	require.NoError(t, b.Delete(t.Context(), contract.StreamRetry, held.Seq))
	silent(t, c, 2500*time.Millisecond)
	_, err = b.Last(t.Context(), contract.StreamRetry, m.Subject)
	require.ErrorIs(t, err, bus.ErrNotFound)
}

func timerRuns(t *testing.T, b bus.Bus) {
	d := next(t, due(t, b, contract.Archive))
	require.Equal(t, contract.CronArchive, d.Message().Header[contract.HeaderTimer])
	require.Equal(t, string(contract.Low), d.Message().Header[contract.HeaderLane])
	require.NotEmpty(t, d.Message().Body)
}

func refusesSchedules(t *testing.T, b bus.Bus) {
	at := time.Now().Add(time.Hour)
	for _, tt := range []struct {
		m      bus.Message
		target string
	}{
		{bus.Message{Subject: retrySubject, ID: "a", Body: []byte("1")}, dueSubject},
		{bus.Message{Subject: retrySubject, Body: []byte("1")}, "llm.due.*"},
		{bus.Message{Subject: retrySubject, Body: []byte("1")}, subject}, // another stream's
		{bus.Message{Subject: subject, Body: []byte("1")}, subject},      // takes no schedules
	} {
		require.Error(t, b.Schedule(t.Context(), tt.m, at, tt.target), "%+v to %s", tt.m, tt.target)
	}
	require.Error(t, b.Every(t.Context(), bus.Message{Subject: retrySubject, Body: []byte("1")}, time.Millisecond, dueSubject))
	require.Zero(t, work(t, b))
}
