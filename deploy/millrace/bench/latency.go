package bench

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

// looking is how many documents have their objects looked for at one time, so that the
// looking does not become the load.
const looking = 8

// LatencyResult is how long documents took that came on a fixed schedule.
type LatencyResult struct {
	Rate float64 `json:"rate_per_s"`
	For  float64 `json:"for_s"`
	// Quantiles are from when a document was due to be sent, whenever it was, to when its
	// terminal record was received.
	Quantiles
	Dead       int `json:"dead_letters"`
	Missing    int `json:"not_ended"`
	Objects    int `json:"objects"`    // named by the records
	Unreadable int `json:"unreadable"` // of those, when the record came
}

// latency sends documents on a fixed schedule, whatever becomes of those before.
func (r *run) latency(ctx context.Context, perSecond float64) error {
	n := max(int(perSecond*r.For.Seconds()), 1)
	r.progress(fmt.Sprintf("latency, %d documents at %g/s", n, perSecond))
	documents, err := r.corpus()
	if err != nil {
		return err
	}
	first := r.sent
	r.sent += n
	all := make([]document, n) // made before, so that making them delays none
	for i := range all {
		if all[i], err = documents.document(first + i); err != nil {
			return err
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	look := &looker{store: r.Objects, slots: semaphore.NewWeighted(looking)}
	e, err := r.watch(ctx, first, n, func(i int, body []byte) {
		g.Go(func() error { return look.at(gctx, all[i], body) })
	})
	if err != nil {
		return err
	}
	defer e.stop()

	began := time.Now()
	err = r.sendOnSchedule(ctx, began, perSecond, all)
	if err == nil {
		err = e.wait(ctx, r.Wait)
	}
	e.stop() // nothing is added to g any more
	if looked := g.Wait(); err == nil {
		err = looked
	}
	if err != nil {
		return err
	}
	out := LatencyResult{Rate: perSecond, For: r.For.Seconds(), Objects: int(look.objects.Load()), Unreadable: int(look.unreadable.Load())}
	_, out.Dead, out.Missing = e.times()
	var times []time.Duration
	e.each(func(i int, at time.Time) { times = append(times, at.Sub(schedule(began, perSecond, i))) })
	out.Quantiles = quantiles(times)
	r.report.Latency = append(r.report.Latency, out)
	_, _, err = r.emptied(ctx) // what is measured next is to have the machine to itself
	return err
}

// sendOnSchedule sends each document when it is due: one that is slow to be accepted holds
// up none. It returns when all are accepted.
func (r *run) sendOnSchedule(ctx context.Context, began time.Time, perSecond float64, all []document) error {
	var refused atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	for i, d := range all {
		if wait := time.Until(schedule(began, perSecond, i)); wait > 0 {
			if err := pause(gctx, wait); err != nil {
				break // Wait says why
			}
		}
		g.Go(func() error { return r.publish(gctx, d, &refused) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// looker looks, as soon as a terminal record has come, for the objects that it names.
type looker struct {
	store               store.Store
	slots               *semaphore.Weighted
	objects, unreadable atomic.Int64
}

// at looks for the objects of one document, all at one time. One raw object is read and
// compared.
func (l *looker) at(ctx context.Context, d document, body []byte) error {
	if err := l.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	defer l.slots.Release(1)
	refs, err := named(body)
	if err != nil {
		return fmt.Errorf("read the record of %s: %w", d.id, err)
	}
	l.objects.Add(int64(len(refs)))
	var work sync.WaitGroup
	compare := true
	for _, ref := range refs {
		whole := compare && ref.Bucket == contract.BucketRaw
		compare = compare && !whole
		work.Go(func() {
			if !l.readable(ctx, ref, whole, d.body) {
				l.unreadable.Add(1)
			}
		})
	}
	work.Wait()
	return context.Cause(ctx)
}

// readable reports whether an object is there, and with whole also whether it holds want.
func (l *looker) readable(ctx context.Context, ref store.Ref, whole bool, want []byte) bool {
	if whole {
		o, err := l.store.Get(ctx, ref)
		return err == nil && bytes.Equal(o.Body, want)
	}
	_, err := l.store.Stat(ctx, ref)
	return err == nil
}
