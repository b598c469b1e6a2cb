// Package operate is what the operator's commands do, without flags and printing: publish,
// follow and find documents, look at dead letters and replay them, and check a set-up. It
// works on the interfaces of the broker and the store and never changes a document on its
// way but by replaying it.
package operate

import (
	"context"
	"errors"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/fault"
)

// claimBytes is the largest body that travels in a message; larger ones are stored first.
const claimBytes = 256 << 10

// MaxDocument is the largest document that is read into memory, in bytes. It is far above
// what ingest takes, so that what is too large becomes a dead letter that says so.
const MaxDocument = 256 << 20

// The pace of repeating a publish whose answer did not come. The broker's client waits five
// seconds for each.
const (
	publishTries = 4
	publishPause = 500 * time.Millisecond
)

// publish publishes m and repeats it, under the same id, while it is not known whether it
// was stored. A refusal is final.
func publish(ctx context.Context, b bus.Bus, m bus.Message) (bus.Receipt, error) {
	for try := 1; ; try++ {
		r, err := b.Publish(ctx, m)
		if err == nil || try == publishTries || !unknown(err) {
			return r, refusal(err)
		}
		if err := sleep(ctx, publishPause); err != nil {
			return bus.Receipt{}, err
		}
	}
}

// unknown reports whether err says that the broker's answer did not come.
func unknown(err error) bool {
	return fault.Of(err).Kind == fault.Unavailable &&
		!errors.Is(err, bus.ErrFull) && !errors.Is(err, bus.ErrNoStream) && !errors.Is(err, bus.ErrTooLarge)
}

// refusedError puts the plain words of a refusal before the broker's own.
type refusedError struct {
	plain string
	cause error
}

func (e *refusedError) Error() string { return e.plain + ": " + e.cause.Error() }
func (e *refusedError) Unwrap() error { return e.cause }

// refusal says in plain words why the broker did not take a message.
func refusal(err error) error {
	switch {
	case errors.Is(err, bus.ErrFull):
		return &refusedError{"the queue is full", err}
	case errors.Is(err, bus.ErrNoStream):
		return &refusedError{"no stream takes the message (is the broker provisioned?)", err}
	case errors.Is(err, bus.ErrTooLarge):
		return &refusedError{"the message is too large for the broker", err}
	default:
		return err
	}
}

// sleep waits for d, or returns why ctx ended.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
