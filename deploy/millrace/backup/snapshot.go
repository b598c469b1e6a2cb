package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jobspy/millrace/shared/codec"
)

const (
	// chunkBytes is the size of a piece in which a stream travels.
	chunkBytes = 128 << 10
	// chunkWait is how long the next piece, or its confirmation, may take.
	chunkWait = 30 * time.Second
	// finishWait is how long the broker may take to put a stream together out of its pieces.
	finishWait = 10 * time.Minute
)

// snapped is a stream as the broker gave it.
type snapped struct {
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
	bytes  int64
}

// apiError is what the broker says where it refuses.
type apiError struct {
	Code        int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string { return fmt.Sprintf("%s (%d)", e.Description, e.Code) }

// ask asks the broker's management interface and reads the answer into v.
func ask(ctx context.Context, nc *nats.Conn, subject string, body []byte, wait time.Duration, v any) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	reply, err := nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return err
	}
	if len(reply.Data) == 0 {
		return nil
	}
	var failed struct {
		Error *apiError `json:"error"`
	}
	if err := codec.Unmarshal(reply.Data, &failed); err != nil {
		return fmt.Errorf("read the broker's answer: %w", err)
	}
	if failed.Error != nil {
		return failed.Error
	}
	if v == nil {
		return nil
	}
	return codec.Unmarshal(reply.Data, v)
}

// snapshot writes a stream with its messages and consumers to w, in the broker's own form. The
// broker checks its messages before.
func snapshot(ctx context.Context, nc *nats.Conn, stream string, w io.Writer) (s snapped, err error) {
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return s, err
	}
	defer func() { _ = sub.Unsubscribe() }() // it fails only where the connection is closed
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return s, err
	}
	body, err := codec.Marshal(map[string]any{"deliver_subject": inbox, "chunk_size": chunkBytes, "jsck": true})
	if err != nil {
		return s, err
	}
	if err := ask(ctx, nc, "$JS.API.STREAM.SNAPSHOT."+stream, body, chunkWait, &s); err != nil {
		return s, err
	}
	for {
		m, err := next(ctx, sub)
		if err != nil {
			return s, err
		}
		if len(m.Data) == 0 {
			return s, ended(m)
		}
		// Confirmed before it is written: the broker waits two seconds for that, a disk may not.
		if m.Reply != "" {
			if err := m.Respond(nil); err != nil {
				return s, err
			}
		}
		n, err := w.Write(m.Data)
		if s.bytes += int64(n); err != nil {
			return s, err
		}
	}
}

func next(ctx context.Context, sub *nats.Subscription) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, chunkWait, errors.New("the broker has stopped sending"))
	defer cancel()
	m, err := sub.NextMsgWithContext(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return m, err
}

// ended says whether the last message of a snapshot says that it is complete.
func ended(m *nats.Msg) error {
	if status := m.Header.Get("Status"); status != "" && status != "204" {
		return fmt.Errorf("the broker gave up: %s %s", status, m.Header.Get("Description"))
	}
	return nil
}

// restore makes a stream out of what snapshot wrote.
func restore(ctx context.Context, nc *nats.Conn, p Part, r io.Reader) error {
	body, err := codec.Marshal(map[string]json.RawMessage{"config": p.Config, "state": p.State})
	if err != nil {
		return err
	}
	var to struct {
		Subject string `json:"deliver_subject"`
	}
	if err := ask(ctx, nc, "$JS.API.STREAM.RESTORE."+p.Stream, body, chunkWait, &to); err != nil {
		return err
	}
	chunk := make([]byte, chunkBytes)
	for {
		n, err := io.ReadFull(r, chunk)
		if n > 0 {
			if err := ask(ctx, nc, to.Subject, chunk[:n], chunkWait, nil); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return ask(ctx, nc, to.Subject, nil, finishWait, nil)
		case err != nil:
			return err
		}
	}
}
