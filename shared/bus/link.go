package bus

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// dialTimeout bounds the try to connect to one server.
	dialTimeout = 2 * time.Second
	// writeTimeout is how long the network may take nothing before the connection counts as
	// dead. The client library holds its lock while it writes, so that until then nothing
	// else is noticed either.
	writeTimeout = 4 * time.Second
	// isolatedAfter is how long a server may leave everything unanswered before another one is
	// tried: it may be cut off from the others and not from us. Most elections take less; for
	// one that does not, a connection is made anew for nothing.
	isolatedAfter = 7 * time.Second
)

// errLost is why a question ends whose connection is lost: the answer can not come any more.
var errLost = errors.New("the broker connection was lost before the answer came")

// link watches whether the connection still leads to servers that answer.
type link struct {
	mu   sync.Mutex
	up   context.Context // done when the connection is lost
	down context.CancelCauseFunc

	answered atomic.Int64 // when the broker last answered, or we moved, in Unix nanoseconds
}

func newLink() *link {
	l := &link{}
	l.renew()
	return l
}

// renew is called when a connection stands.
func (l *link) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down != nil {
		l.down(errLost)
	}
	l.up, l.down = context.WithCancelCause(context.Background())
	l.heard()
}

// lose ends what waits for an answer.
func (l *link) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down(errLost)
}

// bind returns ctx so that it also ends when the connection as it stands now is lost.
func (l *link) bind(ctx context.Context) (context.Context, func()) {
	l.mu.Lock()
	up := l.up
	l.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(up, func() { cancel(context.Cause(up)) })
	return ctx, func() { unhook(); cancel(nil) }
}

// heard notes that the broker answered.
func (l *link) heard() { l.answered.Store(time.Now().UnixNano()) }

// isolated is told that there was no answer, and says whether that has been so for too long.
// It says so to one caller in isolatedAfter.
func (l *link) isolated(now time.Time) bool {
	last := l.answered.Load()
	return now.Sub(time.Unix(0, last)) >= isolatedAfter && l.answered.CompareAndSwap(last, now.UnixNano())
}

// ask sends a message and waits for its answer.
func (j *JetStream) ask(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	bound, done := j.link.bind(ctx)
	defer done()
	reply, err := j.nc.RequestMsgWithContext(bound, m)
	switch {
	case err == nil: // what it says tells whether the server is of use
	case ctx.Err() == nil && errors.Is(context.Cause(bound), errLost):
		err = errLost
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, context.DeadlineExceeded):
		j.unanswered()
	}
	return reply, err
}

// answered judges an answer with the refusal in it, if there is one: a server that has lost the
// others, or that waits for them to store what was sent before, is as bad as one that says
// nothing.
func (j *JetStream) answered(e *apiError) {
	if e != nil && (e.ErrCode == codeNoQuorum || e.ErrCode == codeInProcess) {
		j.unanswered()
		return
	}
	j.link.heard()
}

// unanswered moves to another server where this one has answered nothing for long.
func (j *JetStream) unanswered() {
	if len(j.nc.Servers()) < 2 || !j.link.isolated(time.Now()) {
		return
	}
	j.log.Warn().Str("server", j.nc.ConnectedServerName()).Dur("for", isolatedAfter).
		Msg("broker answers nothing, trying another server")
	_ = j.nc.ForceReconnect() // it fails only where the connection is closed
}

// dialer connects so that a connection ends on which nothing can be written.
type dialer struct{ net.Dialer }

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	c, err := d.Dialer.Dial(network, address)
	if err != nil {
		return nil, err
	}
	return &mortal{c}, nil
}

// mortal is a connection that a failed write closes, so that whoever reads from it notices.
type mortal struct{ net.Conn }

func (m *mortal) Write(b []byte) (int, error) {
	n, err := m.Conn.Write(b)
	if err != nil {
		_ = m.Close() // it is of no use any more
	}
	return n, err
}
