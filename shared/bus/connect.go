package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/jobspy/millrace/shared/fault"
)

const (
	// DefaultFirstWait is how long Connect waits for the broker where Settings say nothing.
	DefaultFirstWait = 10 * time.Second
	// answerTimeout bounds the wait for one answer of the broker.
	answerTimeout = 5 * time.Second
	// drainTimeout bounds how long Close waits for what is still being sent.
	drainTimeout = 5 * time.Second
	// reconnectWait and reconnectJitter are the pause between two tries to reconnect.
	reconnectWait   = 500 * time.Millisecond
	reconnectJitter = 500 * time.Millisecond
	// pingInterval and maxPings bound how long a dead connection goes unnoticed: 6 s.
	pingInterval = 2 * time.Second
	maxPings     = 2
)

// Settings say where the broker is and who asks.
type Settings struct {
	// URL is one or more addresses, separated by commas. Not used where InProcess is set.
	URL string
	// InProcess connects to a server in this process. Nil means over the network.
	InProcess nats.InProcessConnProvider

	CredsFile string // JWT credentials
	NKeyFile  string // nkey seed
	CAFile    string // certificates of the authorities that the server's is checked against
	CertFile  string // client certificate, with KeyFile
	KeyFile   string

	// Name is shown in the broker's list of connections. Answers come to _INBOX_<Name>.>, so
	// that permissions can tell one stage's answers from another's; characters other than
	// letters, digits, "-" and "_" count as "_".
	Name string
	// FirstWait is how long Connect waits for the broker; 0 means DefaultFirstWait. Once
	// connected, a lost connection is sought again without end.
	FirstWait time.Duration
	// Log takes what happens to the connection.
	Log zerolog.Logger
}

// JetStream is the Bus over NATS JetStream. It may be used concurrently.
type JetStream struct {
	nc  *nats.Conn
	js  jetstream.JetStream
	log zerolog.Logger

	connected chan struct{} // holds a value once the first connection stands
	closed    chan struct{}

	gather *gatherer
	link   *link

	mu      sync.Mutex
	running map[*puller]struct{}
}

var _ Bus = (*JetStream)(nil)

// Connect connects to the broker and returns when the connection stands, or with an error
// whose verdict is fault.Unavailable when it does not within the first wait.
func Connect(ctx context.Context, s Settings) (*JetStream, error) {
	j := &JetStream{
		log:       s.Log,
		connected: make(chan struct{}, 1),
		closed:    make(chan struct{}),
		link:      newLink(),
		running:   make(map[*puller]struct{}),
	}
	j.gather = &gatherer{j: j, baskets: map[string]*basket{}}
	opts, err := j.options(s)
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(s.URL, opts...)
	if err != nil {
		return nil, fault.Down(fmt.Errorf("connect to the broker: %w", err))
	}
	j.nc = nc
	if err := j.awaitFirst(ctx, s.FirstWait); err != nil {
		nc.Close()
		<-j.closed
		return nil, err
	}
	if j.js, err = jetstream.New(nc, jetstream.WithDefaultTimeout(answerTimeout)); err != nil {
		nc.Close()
		<-j.closed
		return nil, fmt.Errorf("connect to the broker: %w", err)
	}
	return j, nil
}

func (j *JetStream) options(s Settings) ([]nats.Option, error) {
	opts := []nats.Option{
		nats.Name(s.Name),
		nats.CustomInboxPrefix("_INBOX_" + inboxName(s.Name)),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		// Nothing is sent after the fact: a publish that nobody waits for any more must not
		// be stored when the connection comes back.
		nats.ReconnectBufSize(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.PermissionErrOnSubscribe(true),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(maxPings),
		nats.FlusherTimeout(writeTimeout),
		nats.DrainTimeout(drainTimeout),
		nats.ConnectHandler(func(*nats.Conn) { j.connected <- struct{}{} }),
		nats.ReconnectHandler(j.reconnected),
		nats.DisconnectErrHandler(j.disconnected),
		nats.ErrorHandler(j.failed),
		nats.ClosedHandler(func(*nats.Conn) { close(j.closed) }),
	}
	if s.InProcess != nil {
		opts = append(opts, nats.InProcessServer(s.InProcess))
	} else {
		opts = append(opts, nats.SetCustomDialer(&dialer{net.Dialer{Timeout: dialTimeout}}))
	}
	if s.CredsFile != "" {
		opts = append(opts, nats.UserCredentials(s.CredsFile))
	}
	if s.NKeyFile != "" {
		o, err := nats.NkeyOptionFromSeed(s.NKeyFile)
		if err != nil {
			return nil, fmt.Errorf("read nkey seed %q: %w", s.NKeyFile, err)
		}
		opts = append(opts, o)
	}
	if s.CAFile != "" {
		opts = append(opts, nats.RootCAs(s.CAFile))
	}
	if s.CertFile != "" || s.KeyFile != "" {
		opts = append(opts, nats.ClientCert(s.CertFile, s.KeyFile))
	}
	return opts, nil
}

func inboxName(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, name)
}

func (j *JetStream) awaitFirst(ctx context.Context, wait time.Duration) error {
	if wait <= 0 {
		wait = DefaultFirstWait
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case <-j.connected:
		return nil
	case <-ctx.Done():
		err := j.nc.LastError()
		if err == nil {
			err = ctx.Err()
		}
		return fault.Down(fmt.Errorf("connect to the broker: %w", err))
	}
}

// reconnected makes every Consume ask again: the broker forgot what it was asked before.
func (j *JetStream) reconnected(nc *nats.Conn) {
	j.log.Info().Str("server", nc.ConnectedServerName()).Msg("broker connection is back")
	j.link.renew()
	j.mu.Lock()
	defer j.mu.Unlock()
	for p := range j.running {
		p.restart()
	}
}

func (j *JetStream) disconnected(_ *nats.Conn, err error) {
	j.link.lose()
	if err == nil {
		return // we closed it
	}
	j.log.Warn().Err(err).Msg("broker connection is lost")
}

func (j *JetStream) failed(_ *nats.Conn, sub *nats.Subscription, err error) {
	e := j.log.Error().Err(err)
	if sub != nil {
		e = e.Str("subject", sub.Subject)
	}
	e.Msg("broker refused or dropped something")
}

// Conn returns the connection, for what Bus does not offer. Callers do not close it.
func (j *JetStream) Conn() *nats.Conn { return j.nc }

// JetStream returns the broker's management interface, for operator tools.
func (j *JetStream) JetStream() jetstream.JetStream { return j.js }

// Ready returns nil while the broker answers.
func (j *JetStream) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if s := j.nc.Status(); s != nats.CONNECTED {
		return fault.Down(fmt.Errorf("broker connection is %s", strings.ToLower(s.String())))
	}
	if err := j.nc.FlushWithContext(ctx); err != nil {
		return fault.Down(fmt.Errorf("ping the broker: %w", err))
	}
	return nil
}

// Listen calls fn for each message published on a subject that filter matches from now on,
// stored or not, one call at a time, until the returned function is called. Nothing is
// replayed, and messages are lost while the connection is.
func (j *JetStream) Listen(filter string, fn func(subject string, h Header, body []byte)) (stop func(), err error) {
	sub, err := j.nc.Subscribe(filter, func(m *nats.Msg) { fn(m.Subject, flatten(m.Header), m.Data) })
	if err != nil {
		return nil, fault.Down(fmt.Errorf("listen on %q: %w", filter, err))
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	if err := j.nc.FlushWithContext(ctx); err != nil {
		return nil, fault.Down(errors.Join(fmt.Errorf("listen on %q: %w", filter, err), sub.Unsubscribe()))
	}
	return func() { _ = sub.Unsubscribe() }, nil // it fails only where the connection is closed
}

// Close stops every Consume, sends what is still to be sent and closes the connection. It
// is idempotent, and Deliveries can not be settled afterwards.
func (j *JetStream) Close() error {
	j.mu.Lock()
	running := make([]*puller, 0, len(j.running))
	for p := range j.running {
		running = append(running, p)
	}
	j.mu.Unlock()
	var stopping sync.WaitGroup
	for _, p := range running {
		stopping.Go(p.Stop)
	}
	stopping.Wait()
	err := j.nc.Drain()
	if err != nil {
		j.nc.Close() // not connected: there is nothing to wait for
	}
	<-j.closed
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionReconnecting) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("close the broker connection: %w", err)
	}
	return nil
}
