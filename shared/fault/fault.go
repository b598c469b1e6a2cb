// Package fault says what an error means for the work that met it: whether the same
// input will always fail, may work later, has to wait, or could not be tried because
// something it depends on is down. An error that nobody classified may work later.
package fault

import (
	"errors"
	"time"

	"github.com/jobspy/millrace/shared/contract"
)

// Kind is a verdict.
type Kind int

// The verdicts.
const (
	// Transient may work later: one attempt of a bounded number. It is the zero value.
	Transient Kind = iota
	// Permanent will always fail on the same input: a dead letter at once.
	Permanent
	// Waiting is not ready yet: tried again later, not counted as an attempt.
	Waiting
	// Unavailable could not be tried because a dependency is down: held and tried again
	// until it is back, not counted as an attempt.
	Unavailable
)

// Error is an error with its verdict. It reads like its cause.
type Error struct {
	Kind   Kind
	Reason contract.Reason // of the dead letter, where there is one; empty means exhausted
	After  time.Duration   // the least delay before the next try; 0 leaves it to the runner
	cause  error
}

// Error returns the text of the cause, unchanged.
func (e *Error) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// New returns a permanent error with reason r and the given text.
func New(r contract.Reason, text string) error { return Permanently(r, errors.New(text)) }

// Permanently says that the same input will always fail with err; r is the reason of the dead
// letter. A nil err gives nil.
func Permanently(r contract.Reason, err error) error {
	return wrap(&Error{Kind: Permanent, Reason: r, cause: err})
}

// RetryAfter says that err may be gone after d; the try counts as an attempt, and r is the
// reason of the dead letter once all attempts are spent. A nil err gives nil.
func RetryAfter(r contract.Reason, err error, d time.Duration) error {
	return wrap(&Error{Kind: Transient, Reason: r, After: d, cause: err})
}

// Wait says that the work is not ready and shall be taken up again after d, which counts as
// no attempt. Whoever returns it bounds the waiting. A nil err gives nil.
func Wait(err error, d time.Duration) error {
	return wrap(&Error{Kind: Waiting, After: d, cause: err})
}

// Down says that a dependency could not be reached, so that nothing was learnt about the
// work. A nil err gives nil.
func Down(err error) error {
	return wrap(&Error{Kind: Unavailable, cause: err})
}

func wrap(e *Error) error {
	if e.cause == nil {
		return nil
	}
	return e
}

// Of returns the verdict on err: that of the outermost classified error in its chain, else
// Transient. It is the only reader of verdicts.
func Of(err error) Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return *e
	}
	return Error{cause: err}
}
