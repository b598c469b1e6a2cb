package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/slot"
)

const (
	// answerTimeout is how long an answer is waited for, as the client of the broker does.
	answerTimeout = 5 * time.Second
	// outage is how long a call takes that nobody answers.
	outage = time.Second
)

// layer is between one stage of one life and the world: all that goes wrong goes wrong here.
type layer struct {
	world *world
	life  *life
	stage contract.Stage
}

// call makes effect happen, or what the schedule has instead. effect happens in an instant and
// tells what the world answers. A lost answer is an error with the verdict that its giver is
// down.
func call[T any](ctx context.Context, l *layer, o op, about string, effect func(context.Context) (T, error)) (T, error) {
	defer slot.Pause(ctx)() // who waits for the broker or the store does not work
	var none T
	d := l.world.docOf(about)
	if err := l.life.pass(); err != nil {
		return none, err
	}
	if l.world.out(o) {
		l.world.note(d, "%s: %s %s: out of order", l.stage, o, about)
		if err := sleep(ctx, outage); err != nil {
			return none, fault.Down(err)
		}
		return none, errRefused
	}
	f, takes := l.world.next(l.stage, o, d)
	if err := sleep(ctx, takes); err != nil {
		return none, fault.Down(err)
	}
	if err := l.life.pass(); err != nil {
		return none, err
	}
	if f == nil {
		v, err := effect(ctx)
		l.world.note(d, "%s: %s %s: %v", l.stage, o, about, brief(err))
		return v, err
	}
	l.world.note(d, "%s: %s %s: FAULT %s %s", l.stage, o, about, f.kind, f.wait)
	switch f.kind {
	case crashBefore:
		l.life.crash(f.String())
		return none, errDead
	case crashAfter:
		_, _ = effect(ctx) // nobody is told
		l.life.crash(f.String())
		return none, errDead
	case lost:
		_, _ = effect(ctx) // nobody is told
		return none, errLost
	case slow:
		if err := sleep(ctx, f.wait); err != nil {
			return none, fault.Down(err)
		}
		if l.life.isDead() {
			return none, errDead
		}
		return effect(ctx)
	case late:
		l.world.later(f.wait, func() {
			_, err := effect(context.WithoutCancel(ctx))
			l.world.note(d, "%s: %s %s: late: %v", l.stage, o, about, brief(err))
		})
		if err := sleep(ctx, min(f.wait, answerTimeout)); err != nil {
			return none, fault.Down(err)
		}
		return none, errLost
	default:
		return none, errRefused
	}
}

// do is call for what answers nothing but an error.
func (l *layer) do(ctx context.Context, o op, about string, effect func(context.Context) error) error {
	_, err := call(ctx, l, o, about, func(ctx context.Context) (struct{}, error) { return struct{}{}, effect(ctx) })
	return err
}

// instant is call for what does not wait for an answer.
func (l *layer) instant(o op, about string, effect func() error) error {
	d := l.world.docOf(about)
	if l.life.isDead() {
		return errDead
	}
	if l.life.thaws() > 0 || l.world.out(o) {
		return errRefused
	}
	f, _ := l.world.next(l.stage, o, d)
	if f == nil {
		err := effect()
		l.world.note(d, "%s: %s %s: %v", l.stage, o, about, brief(err))
		return err
	}
	l.world.note(d, "%s: %s %s: FAULT %s", l.stage, o, about, f.kind)
	switch f.kind {
	case crashBefore:
		l.life.crash(f.String())
		return errDead
	case crashAfter:
		_ = effect() // nobody is told
		l.life.crash(f.String())
		return errDead
	case lost:
		return nil // it went out and did not arrive
	default:
		return errRefused
	}
}

// brief writes an error for a trace.
func brief(err error) string {
	if err == nil {
		return "done"
	}
	return fmt.Sprintf("%.120s", err.Error())
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
