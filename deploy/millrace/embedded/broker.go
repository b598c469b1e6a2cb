package embedded

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
)

const (
	// MaxPayload is the largest message in bytes that the broker takes.
	MaxPayload = 8 << 20
	// brokerName is the name of the server. It must stay the same from start to start, for
	// the streams on disk belong to it.
	brokerName = "millrace"
	// brokerStart bounds the start, which reads the state of all streams.
	brokerStart = 60 * time.Second
	// brokerStop bounds the stop.
	brokerStop = 10 * time.Second
	// brokerPoll is how often a starting broker is looked at.
	brokerPoll = 50 * time.Millisecond
)

// BrokerConfig says how the broker runs.
type BrokerConfig struct {
	// Dir holds the streams. It is made where it is missing.
	Dir string
	// Addr is the host:port to listen on; port 0 means any free one. Empty means that only
	// this process can connect.
	Addr string
	// MaxStore and MaxMemory bound what all streams together may take on disk and in memory,
	// in bytes. 0 leaves it to the server: three quarters of what is there.
	MaxStore  int64
	MaxMemory int64
	// Log gets the warnings and errors of the server.
	Log zerolog.Logger
}

// Broker is a running broker. It is an nats.InProcessConnProvider.
type Broker struct {
	srv    *server.Server
	folder *folder

	stop    sync.Once
	stopErr error
}

// StartBroker starts the broker and returns when it takes connections. Each message that
// it acknowledges is on disk.
func StartBroker(c BrokerConfig) (*Broker, error) {
	host, port, err := splitAddr(c.Addr)
	if err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	dir, err := takeFolder(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	srv, err := server.NewServer(&server.Options{
		ServerName: brokerName, Host: host, Port: port, DontListen: c.Addr == "",
		JetStream: true, StoreDir: dir.path, SyncAlways: true,
		JetStreamMaxStore: c.MaxStore, JetStreamMaxMemory: c.MaxMemory, MaxPayload: MaxPayload,
		NoSigs: true, DisableJetStreamBanner: true,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start broker: %w", err), dir.release(true))
	}
	log := &brokerLog{log: c.Log}
	srv.SetLoggerV2(log, false, false, false)
	b := &Broker{srv: srv, folder: dir}
	srv.Start()
	if err := b.waitReady(log, c.Addr); err != nil {
		return nil, errors.Join(fmt.Errorf("start broker: %w", err), b.Stop())
	}
	return b, nil
}

// waitReady returns when the broker takes connections, or cannot.
func (b *Broker) waitReady(log *brokerLog, addr string) error {
	for began := time.Now(); time.Since(began) < brokerStart; {
		if b.srv.ReadyForConnections(brokerPoll) {
			return log.failure()
		}
		if err := log.failure(); err != nil {
			return err
		}
		if !b.srv.Running() {
			return errors.New("the server ended while it started")
		}
	}
	return fmt.Errorf("not ready on %q within %v", addr, brokerStart)
}

// Addr returns the host:port that the broker listens on, empty where it does not.
func (b *Broker) Addr() string {
	if a := b.srv.Addr(); a != nil {
		return a.String()
	}
	return ""
}

// URL returns the address for clients.
func (b *Broker) URL() string { return b.srv.ClientURL() }

// InProcessConn returns a connection that needs no network.
func (b *Broker) InProcessConn() (net.Conn, error) { return b.srv.InProcessConn() }

// Monitoring answers what the broker's monitoring answers on /jsz.
func (b *Broker) Monitoring() http.Handler { return http.HandlerFunc(b.srv.HandleJsz) }

// SyncAlways reports whether the running server syncs each message before it acknowledges.
func (b *Broker) SyncAlways() bool {
	c := b.srv.JetStreamConfig()
	return c != nil && c.SyncAlways
}

// Stop ends the broker and gives its folder back. It takes at most ten seconds: then it
// reports an error and the folder stays locked until the process ends. Idempotent.
func (b *Broker) Stop() error {
	b.stop.Do(func() {
		if err := b.shutdown(); err != nil {
			b.stopErr = fmt.Errorf("stop broker: %w", err)
		}
	})
	return b.stopErr
}

func (b *Broker) shutdown() error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.srv.Shutdown()
		b.srv.WaitForShutdown()
	}()
	timer := time.NewTimer(brokerStop)
	defer timer.Stop()
	select {
	case <-done:
		return b.folder.release(true)
	case <-timer.C:
		return fmt.Errorf("still busy after %v", brokerStop)
	}
}

// splitAddr returns the parts of host:port in the form the server takes; for an empty
// address nothing.
func splitAddr(addr string) (host string, port int, err error) {
	if addr == "" {
		return "", 0, nil
	}
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: must be host:port: %w", addr, err)
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: the port must be a number: %w", addr, err)
	}
	if number == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(number), nil
}
