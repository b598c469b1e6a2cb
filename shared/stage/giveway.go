package stage

import (
	"context"
	"time"

	"github.com/jobspy/millrace/shared/contract"
)

const (
	// giveWayLook is the time between two looks at how fast messages come.
	giveWayLook = 100 * time.Millisecond
	// giveWayFrom is the number of messages in the stream from which it can be that producers
	// wait for the line rather than the line for producers.
	giveWayFrom = 128
	// giveWayTrial is for how long it is tried whether messages come faster when the line
	// steps back, and giveWayGain by how much they must. The stages behind have to work off
	// what they have before anything can be seen.
	giveWayTrial = 12 * giveWayLook
	giveWayGain  = 1.5
	// giveWayFirst is the pause after a trial that gained nothing; it doubles each time, up to
	// giveWayMost.
	giveWayFirst = 5 * time.Second
	giveWayMost  = time.Minute
	// giveWayTrickle is the pause between two documents of the bulk lanes meanwhile.
	giveWayTrickle = 50 * time.Millisecond
)

// Yielding is implemented by the handler of a stage whose stream is written by producers. Its
// runner lets a burst in first: on disk each message that is taken and acknowledged is in the
// way of those that are still to be accepted, so producers would wait for the whole line. The
// high lane and what comes from a schedule are taken as always.
type Yielding interface {
	// GivesWay is how long one burst is given way to at most; 0 is never.
	GivesWay() time.Duration
}

// giveWay decides, from how fast messages come, when the bulk lanes are to trickle. It is used
// by one goroutine.
type giveWay struct {
	most time.Duration

	lastSeq uint64
	lastAt  time.Time
	rate    float64 // messages a second, smoothed, while nobody was given way to

	since time.Time // when the present burst was first given way to; zero where none is
	next  time.Time // before which nobody is given way to
	pause time.Duration
	seen  float64 // messages a second, smoothed, since
}

// look takes in the state of the stream and reports whether way is to be given from now on.
func (g *giveWay) look(now time.Time, messages, lastSeq uint64) bool {
	came, span := float64(lastSeq-g.lastSeq), now.Sub(g.lastAt)
	fresh := g.lastAt.IsZero() || span > 5*giveWayLook || lastSeq < g.lastSeq
	g.lastSeq, g.lastAt = lastSeq, now
	if fresh {
		g.rate, g.since = 0, time.Time{}
		return false
	}
	rate := came / span.Seconds()
	if g.since.IsZero() {
		g.rate = smooth(g.rate, rate)
		if messages < giveWayFrom || came == 0 || now.Before(g.next) {
			return false
		}
		g.since, g.seen = now, rate
		return true
	}
	g.seen = smooth(g.seen, rate)
	tried := now.Sub(g.since)
	switch {
	case tried < giveWayTrial:
		return true
	case tried >= g.most:
		g.stop(now, g.most)
		return false
	case g.seen >= giveWayGain*g.rate:
		g.pause = 0
		return true
	case g.pause == 0 && tried > giveWayTrial: // the burst is over
		g.stop(now, giveWayTrial)
		return false
	default:
		g.pause = min(max(2*g.pause, giveWayFirst), giveWayMost)
		g.stop(now, g.pause)
		return false
	}
}

func (g *giveWay) stop(now time.Time, pause time.Duration) {
	g.since, g.next = time.Time{}, now.Add(pause)
}

// smooth returns the mean of the last few values of a rate, of which last is the newest.
func smooth(mean, last float64) float64 {
	if mean == 0 {
		return last
	}
	return (mean + last) / 2
}

// yield lets producers go first, until ctx ends.
func (r *Runner) yield(ctx context.Context) {
	y, ok := r.Handler.(Yielding)
	if !ok || y.GivesWay() <= 0 {
		return
	}
	g := giveWay{most: y.GivesWay()}
	t := time.NewTicker(giveWayLook)
	defer t.Stop()
	giving := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if !giving && !r.busy() {
			continue
		}
		info, err := r.Deps.Bus.Info(ctx, contract.StageStream(r.Stage))
		give := err == nil && g.look(time.Now(), info.Messages, info.LastSeq)
		if give == giving {
			continue
		}
		giving = give
		r.log.Debug().Bool("giving", giving).Float64("rate", g.rate).Float64("seen", g.seen).Msg("giving way to producers")
		if giving {
			r.queue.trickle(giveWayTrickle)
		} else {
			r.queue.trickle(0)
		}
	}
}
