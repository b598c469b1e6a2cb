package store

import (
	"context"
	"slices"
	"time"

	"github.com/jobspy/millrace/shared/fault"
)

// portion is what one call of Put wants in one bucket. It is written in one piece: stores
// may do better with objects that belong together.
type portion struct {
	ctx     context.Context // of the call
	bucket  string
	objects []Object
	place   []int // of each object among the arguments of the call
	size    int64

	room, roomBytes int64     // held in the backlog
	since           time.Time // when it was queued
	result          chan []error
}

// split divides the objects of one call by bucket.
func split(ctx context.Context, objects []Object) []*portion {
	byBucket := map[string]*portion{}
	var all []*portion
	for i, o := range objects {
		p := byBucket[o.Bucket]
		if p == nil {
			p = &portion{ctx: ctx, bucket: o.Bucket, result: make(chan []error, 1)}
			byBucket[o.Bucket] = p
			all = append(all, p)
		}
		p.objects = append(p.objects, o)
		p.place = append(p.place, i)
		p.size += int64(len(o.Body))
	}
	return all
}

// give settles the portion: errs has one error for each of its objects.
func (p *portion) give(errs []error) { p.result <- errs }

// collect waits for the result and puts it where it belongs among errs.
func (p *portion) collect(ctx context.Context, errs []error) {
	var got []error
	select {
	case got = <-p.result:
	case <-ctx.Done():
		got = repeat(fault.Down(context.Cause(ctx)), len(p.objects))
	}
	for i, err := range got {
		errs[p.place[i]] = err
	}
}

// flusher writes batches out of q until the writer is closed and nothing is left.
func (w *Writer) flusher(q *waiting) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		batch, wait, more := w.take(q)
		if !more {
			q.signal() // the next flusher ends as well
			return
		}
		if len(batch) > 0 {
			w.write(q, batch)
			continue
		}
		var due <-chan time.Time
		if wait > 0 {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-q.wake:
		case <-due:
		}
	}
}

// take returns the next batch. Where it is empty the caller asks again after wait, or when
// it is woken (wait 0: only then). more is false where there will be no more batches.
func (w *Writer) take(q *waiting) (batch []*portion, wait time.Duration, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(q.order) == 0 {
		return nil, 0, !w.closed
	}
	for i, bucket := range q.order {
		queue := q.queues[bucket]
		n, full := w.fit(queue)
		left := q.linger - time.Since(queue[0].since)
		if q.busy > 0 && !full && !w.closed && left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		q.order = slices.Delete(q.order, i, i+1)
		if n < len(queue) {
			q.order = append(q.order, bucket) // behind the others: each bucket gets its turn
			q.queues[bucket] = queue[n:]
		} else {
			delete(q.queues, bucket)
		}
		q.busy++
		if len(q.order) > 0 {
			q.signal()
		}
		return queue[:n:n], 0, true
	}
	return nil, wait, true
}

// fit returns how many portions of the queue make a batch, and whether that is a full one.
func (w *Writer) fit(queue []*portion) (n int, full bool) {
	objects, size := 0, int64(0)
	for i, p := range queue {
		objects += len(p.objects)
		size += p.size
		over := objects > w.set.BatchObjects || size > w.set.BatchBytes
		if over && i > 0 {
			return i, true
		}
		if over || objects == w.set.BatchObjects {
			return i + 1, true
		}
	}
	return len(queue), false
}

// write stores a batch and gives each portion its result.
func (w *Writer) write(q *waiting, batch []*portion) {
	var objects []Object
	live := make([]*portion, 0, len(batch))
	for _, p := range batch {
		if err := context.Cause(p.ctx); err != nil {
			// Nobody waits for it any more.
			w.settle(p, repeat(fault.Down(err), len(p.objects)))
			continue
		}
		live = append(live, p)
		objects = append(objects, p.objects...)
	}
	began := time.Now()
	var errs []error
	if len(objects) > 0 {
		ctx := w.ctx
		if q == w.urgent {
			ctx = Urgent(ctx)
		}
		errs = w.Store.Put(ctx, objects...)
	}
	w.mu.Lock()
	q.busy--
	if len(objects) > 0 {
		w.stats.Batches++
		w.stats.Busy += time.Since(began)
	}
	w.mu.Unlock()
	q.signal() // what lingers need not linger any more
	if errs == nil {
		errs = make([]error, len(objects))
	}
	for _, p := range live {
		n := len(p.objects)
		w.settle(p, errs[:n:n])
		errs = errs[n:]
	}
}

// settle counts the portion, frees its room in the backlog and gives it its result.
func (w *Writer) settle(p *portion, errs []error) {
	w.mu.Lock()
	w.stats.Backlog -= len(p.objects)
	for i, err := range errs {
		if err != nil {
			w.stats.Errors++
			continue
		}
		w.stats.Objects++
		w.stats.Bytes += uint64(len(p.objects[i].Body))
	}
	w.mu.Unlock()
	w.count.Release(p.room)
	w.bytes.Release(p.roomBytes)
	p.give(errs)
}

// repeat returns n times err.
func repeat(err error, n int) []error { return slices.Repeat([]error{err}, n) }
