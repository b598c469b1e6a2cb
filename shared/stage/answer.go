package stage

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
)

// isAnswer reports whether a message is a real-time answer.
func isAnswer(subject string) bool { return strings.HasPrefix(subject, contract.RootResult+".") }

// answer publishes a real-time answer. The stream that keeps answers is in memory alone, and a
// broker that was started again does not have it until somebody provisions: an answer that no
// stream takes has still reached whoever listens, and no document waits for it. The stage
// says that it is not ready, for callers who ask later get nothing.
func (r *Runner) answer(ctx context.Context, m bus.Message) error {
	return r.hold(ctx, m.Subject, func(ctx context.Context) error {
		_, err := r.Deps.Bus.Publish(ctx, m)
		gone := errors.Is(err, bus.ErrNoStream)
		if was := r.answerless.Swap(gone); gone && !was {
			r.log.Warn().Err(err).Msg("answers are not kept until the line is provisioned again")
		}
		if gone {
			return nil
		}
		return err
	}, final)
}

// unkept returns what is wrong with answers, nil where the last one was kept.
func (r *Runner) unkept() error {
	if !r.answerless.Load() {
		return nil
	}
	return fmt.Errorf("the broker has no stream %s: run millrace provision", contract.StreamResult)
}
