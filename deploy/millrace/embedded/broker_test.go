package embedded

import (
	"bytes"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

func startBroker(t *testing.T, dir, addr string) *Broker {
	t.Helper()
	b, err := StartBroker(BrokerConfig{Dir: dir, Addr: addr, MaxStore: 1 << 30, MaxMemory: 64 << 20, Log: zerolog.Nop()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Stop()) })
	return b
}

func stream(t *testing.T, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	_, err = js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	require.NoError(t, err)
	return js
}

func TestBrokerKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := startBroker(t, dir, "127.0.0.1:0")
	require.True(t, b.SyncAlways())
	nc, err := nats.Connect("", nats.InProcessServer(b))
	require.NoError(t, err)
	large := bytes.Repeat([]byte("x"), MaxPayload-1024)
	_, err = stream(t, nc).Publish(t.Context(), "s.a", large)
	require.NoError(t, err)
	nc.Close()
	require.NoError(t, b.Stop())
	require.NoError(t, b.Stop(), "stopping again is harmless")

	b = startBroker(t, dir, "127.0.0.1:0")
	web, err := nats.Connect(b.URL())
	require.NoError(t, err)
	defer web.Close()
	require.Contains(t, b.URL(), b.Addr())
	js := stream(t, web)
	s, err := js.Stream(t.Context(), "S")
	require.NoError(t, err)
	m, err := s.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	require.True(t, bytes.Equal(large, m.Data))
	_, err = js.Publish(t.Context(), "s.a", make([]byte, MaxPayload+1))
	require.ErrorIs(t, err, nats.ErrMaxPayload)
}

func TestBrokerWithoutAddressListensNowhere(t *testing.T) {
	t.Parallel()
	b := startBroker(t, t.TempDir(), "")
	require.Empty(t, b.Addr())
	nc, err := nats.Connect("", nats.InProcessServer(b))
	require.NoError(t, err)
	defer nc.Close()
	_, err = stream(t, nc).Publish(t.Context(), "s.a", []byte("x"))
	require.NoError(t, err)
}

func TestBrokerSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	used := t.TempDir()
	startBroker(t, used, "")
	tests := []struct {
		name, dir, addr string
		want            []string
	}{
		{"the port is in use", t.TempDir(), taken.Addr().String(), []string{taken.Addr().String(), "address already in use"}},
		{"the folder is in use", used, "", []string{used, "in use by another process", "pid"}},
		{"the address has no port", t.TempDir(), "127.0.0.1", []string{"127.0.0.1", "host:port"}},
		{"the port is no number", t.TempDir(), "127.0.0.1:nats", []string{"127.0.0.1:nats", "number"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			_, err := StartBroker(BrokerConfig{Dir: tt.dir, Addr: tt.addr, MaxStore: 1 << 20, MaxMemory: 1 << 20, Log: zerolog.Nop()})
			require.Error(t, err)
			for _, want := range tt.want {
				require.ErrorContains(t, err, want)
			}
			require.Less(t, time.Since(began), 15*time.Second)
		})
	}
	_, err = StartBroker(BrokerConfig{Dir: used, Log: zerolog.Nop()})
	require.Error(t, err)
}

func TestBrokerLogsOnlyWhatMatters(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := &brokerLog{log: zerolog.New(&out)}
	l.Noticef("starting %s", "up")
	l.Debugf("x")
	l.Tracef("x")
	require.Empty(t, out.String())
	l.Warnf("slow %s", "consumer")
	l.Errorf("bad %d", 1)
	l.Fatalf("cannot %s", "listen")
	l.Fatalf("second")
	require.EqualError(t, l.failure(), "cannot listen")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 4)
	require.JSONEq(t, `{"level":"warn","detail":"slow consumer","message":"broker warning"}`, lines[0])
	require.JSONEq(t, `{"level":"error","detail":"cannot listen","message":"broker failed"}`, lines[2])
}

// TestBrokerHasNoTestHooks: the library that the server's authors test with must be the one
// that does nothing.
func TestBrokerHasNoTestHooks(t *testing.T) {
	t.Parallel()
	info, ok := debug.ReadBuildInfo()
	require.True(t, ok)
	for _, m := range info.Deps {
		if m.Path == "github.com/antithesishq/antithesis-sdk-go" {
			require.True(t, strings.HasSuffix(m.Version, "-default-no-op"), m.Version)
			return
		}
	}
	t.Skip("SKIPPED: this build does not say what is in it")
}

func TestFolderRemembersACrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := takeFolder(dir)
	require.NoError(t, err)
	require.False(t, f.crashed, "a new folder")
	require.NoError(t, f.release(false))
	f, err = takeFolder(dir)
	require.NoError(t, err)
	require.True(t, f.crashed)
	require.NoError(t, f.release(true))
	f, err = takeFolder(dir)
	require.NoError(t, err)
	require.False(t, f.crashed)
	_, err = takeFolder(dir)
	require.ErrorContains(t, err, dir)
	require.NoError(t, f.release(true))
	fi, err := os.Stat(dir)
	require.NoError(t, err)
	require.True(t, fi.IsDir())
}
