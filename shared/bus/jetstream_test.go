package bus_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/topology"
)

const patience = 20 * time.Second

var (
	stream   = contract.StageStream(contract.Validate)
	consumer = contract.Consumer(contract.Validate, contract.Normal)
	subject  = contract.StageSubject(contract.Validate, contract.Normal, "job_extraction", "openai")
)

func message(body string) bus.Message { return bus.Message{Subject: subject, Body: []byte(body)} }

func receive(t *testing.T, c <-chan bus.Delivery) bus.Delivery {
	t.Helper()
	select {
	case d := <-c:
		return d
	case <-time.After(patience):
		require.FailNow(t, "no delivery")
		return nil
	}
}

// restartable returns a connection to a server with the whole line, and how to stop and
// start that server.
func restartable(t *testing.T) (j *bus.JetStream, stop, start func()) {
	t.Helper()
	dir := t.TempDir()
	s := bustest.StartServer(t, dir, server.RANDOM_PORT)
	port := s.Addr().(*net.TCPAddr).Port
	t.Cleanup(func() { bustest.StopServer(s) })
	j = bustest.Connect(t, s)
	bustest.Provision(t, j, topology.Options{})
	return j, func() { bustest.StopServer(s) }, func() { s = bustest.StartServer(t, dir, port) }
}

func TestConsumeGoesOnAfterTheServerWasAway(t *testing.T) {
	t.Parallel()
	b, stop, start := restartable(t)
	c := make(chan bus.Delivery, 10)
	s, err := b.Consume(t.Context(), stream, consumer, 2, func(d bus.Delivery) { c <- d })
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	_, err = b.Publish(t.Context(), message("1"))
	require.NoError(t, err)
	held := receive(t, c)

	stop()
	require.Eventually(t, func() bool { return b.Ready(t.Context()) != nil }, patience, 10*time.Millisecond)
	_, err = b.Publish(t.Context(), message("while it is away"))
	require.Equal(t, fault.Unavailable, fault.Of(err).Kind, "%v", err)
	require.Equal(t, fault.Unavailable, fault.Of(held.Ack(t.Context())).Kind)
	require.Equal(t, fault.Unavailable, fault.Of(held.Progress()).Kind)

	start()
	require.Eventually(t, func() bool { return b.Ready(t.Context()) == nil }, patience, 10*time.Millisecond)
	require.NoError(t, held.Ack(t.Context()), "what was held may be settled with the new connection")
	_, err = b.Publish(t.Context(), message("2"))
	require.NoError(t, err)
	asked := time.Now()
	d := receive(t, c)
	require.Equal(t, "2", string(d.Message().Body), "what could not be published was not kept for later")
	require.Less(t, time.Since(asked), 4*time.Second, "it was asked for at once")
	require.NoError(t, d.Ack(t.Context()))
}

func TestWatchGoesOnAfterTheServerWasAway(t *testing.T) {
	t.Parallel()
	b, stop, start := restartable(t)
	kv, err := b.KV(t.Context(), contract.KVConfig)
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), "storage", []byte("before"), 0)
	require.NoError(t, err)
	seen := make(chan string, 16)
	w, err := kv.Watch(t.Context(), "storage", func(e bus.Entry) { seen <- string(e.Value) })
	require.NoError(t, err)
	t.Cleanup(w.Stop)
	require.Equal(t, "before", <-seen)

	stop()
	require.Eventually(t, func() bool { return b.Ready(t.Context()) != nil }, patience, 10*time.Millisecond)
	start()
	require.Eventually(t, func() bool { return b.Ready(t.Context()) == nil }, patience, 10*time.Millisecond)
	_, err = kv.Put(t.Context(), "storage", []byte("after"), 0)
	require.NoError(t, err)
	select {
	case got := <-seen:
		require.Equal(t, "after", got)
	case <-time.After(patience):
		require.FailNow(t, "the change is not seen")
	}
}

func TestConsumeWaitsForAConsumerThatIsAway(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{})
	c := make(chan bus.Delivery, 10)
	s, err := b.Consume(t.Context(), stream, consumer, 2, func(d bus.Delivery) { c <- d })
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	require.NoError(t, b.JetStream().DeleteConsumer(t.Context(), stream, consumer))
	_, err = b.Publish(t.Context(), message("1"))
	require.NoError(t, err)
	before := b.Conn().Stats().OutMsgs
	select {
	case <-c:
		require.FailNow(t, "a delivery without a consumer")
	case <-time.After(3 * time.Second):
	}
	require.LessOrEqual(t, b.Conn().Stats().OutMsgs-before, uint64(5), "it asks at a slow pace")
	bustest.Provision(t, b, topology.Options{})
	require.NoError(t, receive(t, c).Ack(t.Context()))
}

func TestIdleConsumersAskRarely(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{})
	for _, l := range contract.Lanes() {
		s, err := b.Consume(t.Context(), stream, contract.Consumer(contract.Validate, l), 8, func(bus.Delivery) {})
		require.NoError(t, err)
		t.Cleanup(s.Stop)
	}
	require.NoError(t, b.Ready(t.Context()))
	before := b.Conn().Stats()
	<-time.After(7 * time.Second)
	after := b.Conn().Stats()
	require.LessOrEqual(t, after.OutMsgs-before.OutMsgs, uint64(3*3))
	require.GreaterOrEqual(t, after.OutMsgs-before.OutMsgs, uint64(3))
}

func TestConnectGivesUpWhereNobodyListens(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	start := time.Now()
	_, err = bus.Connect(t.Context(), bus.Settings{URL: "nats://" + l.Addr().String(), FirstWait: 300 * time.Millisecond})
	require.Equal(t, fault.Unavailable, fault.Of(err).Kind, "%v", err)
	require.Less(t, time.Since(start), 5*time.Second)
	_, err = bus.Connect(t.Context(), bus.Settings{URL: "nats://127.0.0.1:1", NKeyFile: "testdata/none"})
	require.ErrorContains(t, err, "testdata/none")
}

func TestConnectInProcess(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	b, err := bus.Connect(t.Context(), bus.Settings{InProcess: s, Name: "all in one", Log: zerolog.New(io.Discard)})
	require.NoError(t, err)
	bustest.Provision(t, b, topology.Options{})
	_, err = b.Publish(t.Context(), message("1"))
	require.NoError(t, err)
	require.Contains(t, b.Conn().NewInbox(), "_INBOX_all_in_one.")
	require.NoError(t, b.Close())
	require.NoError(t, b.Close())
	require.Error(t, b.Ready(t.Context()))
}

// publishRaw publishes without the client library, which writes only headers that can be read.
func publishRaw(t *testing.T, addr, subject, header, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	r := bufio.NewReader(conn)
	_, err = r.ReadString('\n')
	require.NoError(t, err)
	_, err = fmt.Fprintf(conn, "CONNECT {\"headers\":true,\"verbose\":false}\r\nHPUB %s %d %d\r\n%s%s\r\nPING\r\n",
		subject, len(header), len(header)+len(body), header, body)
	require.NoError(t, err)
	for line := ""; line != "PONG\r\n"; {
		line, err = r.ReadString('\n')
		require.NoError(t, err)
	}
}

func TestAMessageWhoseHeadersCannotBeReadIsAMessage(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	b := bustest.Connect(t, s)
	bustest.Provision(t, b, topology.Options{})
	headers := []string{
		"NATS/1.0\r\nno colon\r\n\r\n",
		"NATS/1.0 404 No Messages\r\n\r\n",
		"NATS/1.0 409 Consumer Deleted\r\nA: b\r\n\r\n",
		"HTTP/1.1\r\n\r\n",
		"\r\n",
		"NATS/1.0\r\n: \r\n\r\n",
	}
	for _, h := range headers {
		for _, body := range []string{"", "body"} {
			publishRaw(t, s.Addr().String(), subject, h, body)
		}
	}
	total := 2 * len(headers)
	require.Eventually(t, func() bool {
		info, err := b.Info(t.Context(), stream)
		require.NoError(t, err)
		return info.Messages == uint64(total)
	}, patience, 10*time.Millisecond)
	next := uint64(1)
	for m, err := range b.Scan(t.Context(), stream, "", 0) {
		require.NoError(t, err)
		require.Equal(t, next, m.Seq)
		got, err := b.Get(t.Context(), stream, next)
		require.NoError(t, err)
		require.Equal(t, string(got.Body), string(m.Body))
		next++
	}
	require.EqualValues(t, total+1, next)
	c := make(chan bus.Delivery, total)
	sub, err := b.Consume(t.Context(), stream, consumer, 2, func(d bus.Delivery) { c <- d })
	require.NoError(t, err)
	t.Cleanup(sub.Stop)
	for range total {
		require.NoError(t, receive(t, c).Ack(t.Context()))
	}
}

func TestCloseEndsEveryConsume(t *testing.T) {
	t.Parallel()
	b := bustest.JetStream(t, topology.Options{})
	var calls atomic.Int64
	_, err := b.Consume(t.Context(), stream, consumer, 4, func(bus.Delivery) { calls.Add(1) })
	require.NoError(t, err)
	_, err = b.Publish(t.Context(), message("1"))
	require.NoError(t, err)
	require.NoError(t, b.Close())
	_, err = b.Publish(t.Context(), message("2"))
	require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
	require.LessOrEqual(t, calls.Load(), int64(1))
}

func TestKeysThatAreGoneLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	b := bustest.Connect(t, bustest.Server(t))
	plan := topology.Topology{Buckets: []bus.KVConfig{{Name: "B", MarkerTTL: time.Second}}}
	_, err := topology.Apply(t.Context(), b.JetStream(), plan, false)
	require.NoError(t, err)
	kv, err := b.KV(t.Context(), "B")
	require.NoError(t, err)
	_, err = kv.Create(t.Context(), "deleted", []byte("1"), 0)
	require.NoError(t, err)
	require.NoError(t, kv.Delete(t.Context(), "deleted"))
	_, err = kv.Create(t.Context(), "expired", []byte("1"), time.Second)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		info, err := b.Info(t.Context(), "KV_B")
		require.NoError(t, err)
		return info.Messages == 0
	}, patience, 20*time.Millisecond)

	theirs, err := b.JetStream().KeyValue(t.Context(), "B")
	require.NoError(t, err, "the client library reads what is written here")
	rev, err := kv.Put(t.Context(), "a", []byte("1"), 0)
	require.NoError(t, err)
	e, err := theirs.Get(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, rev, e.Revision())
	require.NoError(t, theirs.Delete(t.Context(), "a"))
	_, err = kv.Get(t.Context(), "a")
	require.ErrorIs(t, err, bus.ErrNotFound)
}
