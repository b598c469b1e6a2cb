package bus

import (
	"context"
	"errors"
	"time"

	"github.com/jobspy/millrace/shared/fault"
)

// The pace of repeating a publish whose answer did not come. The broker's client waits five
// seconds for each.
const (
	// InsistTries is how often Insist publishes at most.
	InsistTries = 4
	insistPause = 500 * time.Millisecond
)

// Insist publishes m and repeats it, under the same id, while it is not known whether it was
// stored. A refusal is final; it is said in plain words.
func Insist(ctx context.Context, b Bus, m Message) (Receipt, error) {
	for try := 1; ; try++ {
		r, err := b.Publish(ctx, m)
		if err == nil || try == InsistTries || !Unknown(err) {
			return r, refusal(err)
		}
		t := time.NewTimer(insistPause)
		select {
		case <-ctx.Done():
			t.Stop()
			return Receipt{}, context.Cause(ctx)
		case <-t.C:
		}
	}
}

// Unknown reports whether err says that the broker's answer did not come.
func Unknown(err error) bool {
	return fault.Of(err).Kind == fault.Unavailable &&
		!errors.Is(err, ErrFull) && !errors.Is(err, ErrNoStream) && !errors.Is(err, ErrTooLarge)
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
	case errors.Is(err, ErrFull):
		return &refusedError{"the queue is full", err}
	case errors.Is(err, ErrNoStream):
		return &refusedError{"no stream takes the message (is the broker provisioned?)", err}
	case errors.Is(err, ErrTooLarge):
		return &refusedError{"the message is too large for the broker", err}
	default:
		return err
	}
}
