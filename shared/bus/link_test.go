package bus_test

import (
	"errors"
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
	"github.com/jobspy/millrace/shared/topology"
)

// A server whose cable is pulled says nothing, and soon takes nothing either.
func TestAConnectionThatGoesSilentIsLeftSoon(t *testing.T) {
	t.Parallel()
	const soon = 12 * time.Second // the client library's own minute, several times over, is too long
	s := bustest.Server(t)
	bustest.Provision(t, bustest.Connect(t, s), topology.Options{})
	p := newCable(t, s.Addr().String())
	b, err := bus.Connect(t.Context(), bus.Settings{URL: "nats://" + p.addr, Name: "silent", Log: zerolog.Nop()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	_, err = b.Publish(t.Context(), message("before"))
	require.NoError(t, err)

	p.pull()
	began := time.Now()
	large := make([]byte, bustest.MaxPayload/2) // more than the buffers on the way hold
	for i := range 8 {
		go func() {
			_, _ = b.Publish(t.Context(), bus.Message{Subject: subject, ID: fmt.Sprint("large", i), Body: large}) // only the last one counts
		}()
	}
	require.Eventually(t, func() bool {
		_, err := b.Publish(t.Context(), bus.Message{Subject: subject, ID: "after", Body: []byte("after")})
		return err == nil
	}, patience, 50*time.Millisecond)
	require.Less(t, time.Since(began), soon)
}

// A server that is cut off from the others still answers, but knows no stream.
func TestAServerWithoutTheOthersIsLeft(t *testing.T) {
	t.Parallel()
	alone, err := server.NewServer(&server.Options{ServerName: "alone", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	require.NoError(t, err)
	alone.Start()
	t.Cleanup(func() { bustest.StopServer(alone) })
	require.True(t, alone.ReadyForConnections(patience))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	b, err := bus.Connect(t.Context(), bus.Settings{
		URL: fmt.Sprintf("%s,nats://127.0.0.1:%d", alone.ClientURL(), port), Name: "isolated", Log: zerolog.Nop(),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })

	s := bustest.StartServer(t, t.TempDir(), port)
	t.Cleanup(func() { bustest.StopServer(s) })
	bustest.Provision(t, bustest.Connect(t, s), topology.Options{})
	require.Eventually(t, func() bool {
		_, err := b.Publish(t.Context(), message("to whom it concerns"))
		return err == nil
	}, patience, 50*time.Millisecond)
}

// cable passes connections on until it is pulled; those made afterwards go another way.
type cable struct {
	addr   string
	pulled atomic.Bool
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cable{addr: l.Addr().String()}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			t.Cleanup(func() { _ = in.Close(); _ = out.Close() })
			whole := !c.pulled.Load()
			go c.pass(in, out, whole)
			go c.pass(out, in, whole)
		}
	}()
	return c
}

// pull makes the connections so far pass nothing any more, and read nothing.
func (c *cable) pull() { c.pulled.Store(true) }

func (c *cable) pass(from, to net.Conn, whole bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if whole && c.pulled.Load() {
			return
		}
		if err == nil {
			_, err = to.Write(buf[:n])
		}
		if err != nil {
			_ = to.Close()
			if !errors.Is(err, io.EOF) {
				_ = from.Close()
			}
			return
		}
	}
}
