package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/jobspy/millrace/deploy/millrace/chaos/audit"
	"github.com/jobspy/millrace/shared/failpoint"
)

// errNotMet says that nothing came by a point while it was armed.
var errNotMet = errors.New("nothing came by")

// overloadTimes is by how much an overload is over the rate of the run.
const overloadTimes = 5

// inject makes a fault, keeps it for its time and heals it. It returns when it is healed.
func (r *run) inject(ctx context.Context, e Event) error {
	switch e.Kind {
	case KillStage:
		return r.killed(ctx, e.For, r.rig.stages[e.Stage])
	case KillBroker:
		return r.killed(ctx, e.For, r.rig.broker)
	case KillStore:
		return r.killed(ctx, e.For, r.rig.store)
	case KillLine:
		return r.killed(ctx, e.For, r.rig.line)
	case StopStage:
		return r.stopped(ctx, e.For, r.rig.stages[e.Stage])
	case StopBroker:
		return r.stopped(ctx, e.For, r.rig.broker)
	case StopStore:
		return r.stopped(ctx, e.For, r.rig.store)
	case StopLine:
		return r.stopped(ctx, e.For, r.rig.line)
	case DownAtStart:
		return r.downAtStart(ctx, e)
	case BrokerLatency, BrokerReset, BrokerSilent, BrokerDeaf, BrokerLate:
		return r.cut(ctx, e, r.rig.brokerLink)
	case StoreLatency, StoreReset, StoreSilent, StoreDeaf:
		return r.cut(ctx, e, r.rig.storeLink)
	case StoreError, StoreSlowDown, StoreTruncated, StoreLate:
		defer r.rig.lock("store answers")()
		r.rig.storeProxy.set(e.Kind)
		defer r.rig.storeProxy.set("")
		return wait(ctx, e.For)
	case StoreFull:
		return r.full(ctx, e.For, r.rig.storeDisk, nil)
	case BrokerFull:
		// A broker that could not write has to be started again.
		return r.full(ctx, e.For, r.rig.brokerDisk, r.rig.broker)
	case KillAtPoint:
		return r.point(ctx, e)
	case Poison:
		d := audit.Killer(fmt.Sprintf("%s-killer-%d", r.name, r.killers.Add(1)), failpoint.Poison+e.Stage+"!")
		r.load.Send(ctx, d, nil, true)
		return wait(ctx, e.For)
	case Shuffled, Repeated:
		return r.meddle(ctx, e)
	case Before:
		return r.beside(ctx, e)
	case ClockOffset:
		return r.offset(ctx, e)
	case Overload:
		defer r.rig.lock("load")()
		r.load.Overload(overloadTimes)
		defer r.load.Overload(1)
		return wait(ctx, e.For)
	default:
		return fmt.Errorf("inject %q: there is no such fault", e.Kind)
	}
}

// wait lets a fault last.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func (r *run) killed(ctx context.Context, d time.Duration, p *process) error {
	defer r.rig.lock(p.name)()
	p.hold()
	return errors.Join(wait(ctx, d), p.release())
}

func (r *run) stopped(ctx context.Context, d time.Duration, p *process) error {
	defer r.rig.lock(p.name)()
	p.signal(syscall.SIGSTOP)
	defer p.signal(syscall.SIGCONT)
	return wait(ctx, d)
}

// downAtStart starts a stage while there is neither broker nor store.
func (r *run) downAtStart(ctx context.Context, e Event) error {
	p := r.rig.stages[e.Stage]
	all := []*process{r.rig.store, r.rig.broker}
	for _, one := range append(all, p) {
		defer r.rig.lock(one.name)()
		one.hold()
	}
	errs := []error{p.release(), wait(ctx, e.For)}
	for _, one := range all {
		errs = append(errs, one.release(), wait(ctx, time.Second))
	}
	return errors.Join(errs...)
}

// cut hurts the connections of a link.
func (r *run) cut(ctx context.Context, e Event, l *link) error {
	defer r.rig.lock("link to the " + l.proxy.Name)()
	both := []string{"upstream", "downstream"}
	defer l.heal(context.WithoutCancel(ctx))
	var err error
	switch e.Kind {
	case BrokerLatency, StoreLatency:
		err = l.hurt(latency, both...)
	case BrokerReset, StoreReset:
		err = l.hurt(reset, both...)
	case BrokerDeaf, StoreDeaf:
		err = l.hurt(silence, "downstream") // everything is done, and nobody is told
	case BrokerLate:
		// Most of what is published waits for its answer when the connections go.
		err = errors.Join(l.hurt(late, "downstream"), wait(ctx, e.For/2), l.hurt(reset, both...))
		e.For /= 2
	default:
		err = l.hurt(silence, both...)
	}
	return errors.Join(err, wait(ctx, e.For))
}

// full fills a disk, and starts again the program that does not recover by itself.
func (r *run) full(ctx context.Context, d time.Duration, k *disk, restart *process) error {
	defer r.rig.lock("disk " + k.dir)()
	errs := []error{k.fill(), wait(ctx, d), k.heal()}
	if restart != nil {
		defer r.rig.lock(restart.name)()
		restart.hold()
		errs = append(errs, restart.release())
	}
	return errors.Join(errs...)
}

// point arms a failpoint until it is hit, at most for the time of the event.
func (r *run) point(ctx context.Context, e Event) error {
	name := filepath.Join(r.rig.points, e.Stage+"."+string(e.Point))
	defer r.rig.lock(name)()
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		return fmt.Errorf("arm a point: %w", err)
	}
	for end := time.Now().Add(e.For); time.Now().Before(end); {
		if err := wait(ctx, poll); err != nil {
			break
		}
		if _, err := os.Stat(name); os.IsNotExist(err) {
			return nil
		}
	}
	if os.Remove(name) == nil {
		return errNotMet
	}
	return nil
}

// offset runs a stage with a clock that is wrong.
func (r *run) offset(ctx context.Context, e Event) error {
	p := r.rig.stages[e.Stage]
	defer r.rig.lock(p.name)()
	p.mu.Lock()
	env := p.env
	p.mu.Unlock()
	again := func(env []string) error {
		p.hold()
		p.with(env)
		return p.release()
	}
	return errors.Join(
		again(append(slices.Clip(env), "CHAOS_CLOCK_OFFSET="+e.Offset.String())),
		wait(ctx, e.For),
		again(env),
	)
}
