package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/slot"
)

// ErrClosed: the writer was closed before the put.
var ErrClosed = errors.New("the writer of objects is closed")

// The defaults of WriterSettings.
const (
	DefaultFlushers       = 2
	DefaultBatchObjects   = 300
	DefaultBatchBytes     = 16 << 20
	DefaultLinger         = 5 * time.Millisecond
	DefaultBacklogObjects = 4096
	DefaultBacklogBytes   = 128 << 20
)

// WriterSettings tunes a Writer. Zero values mean the defaults.
type WriterSettings struct {
	// Flushers is how many batches are written at one time. One more is kept for urgent objects.
	Flushers int
	// BatchObjects and BatchBytes end a batch. One call's objects for one bucket stay
	// together, so that a single large call may go over.
	BatchObjects int
	BatchBytes   int64
	// Linger is how long a batch may wait for more while another one is being written.
	// While nothing is being written nothing waits. Below zero nothing ever waits.
	Linger time.Duration
	// BacklogObjects and BacklogBytes bound what was handed over and is not stored yet.
	// Callers wait where it is full.
	BacklogObjects int
	BacklogBytes   int64
}

func (s WriterSettings) withDefaults() WriterSettings {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&s.Flushers, DefaultFlushers)
	def(&s.BatchObjects, DefaultBatchObjects)
	def(&s.BacklogObjects, DefaultBacklogObjects)
	if s.BatchBytes <= 0 {
		s.BatchBytes = DefaultBatchBytes
	}
	if s.BacklogBytes <= 0 {
		s.BacklogBytes = DefaultBacklogBytes
	}
	if s.Linger == 0 {
		s.Linger = DefaultLinger
	}
	return s
}

// WriterStats counts what a Writer has done since it was made.
type WriterStats struct {
	Objects uint64        // stored
	Bytes   uint64        // of their bodies
	Batches uint64        // calls of the store below
	Errors  uint64        // objects that were not stored
	Busy    time.Duration // spent in those calls, summed over the flushers
	Backlog int           // objects handed over and not settled yet
}

// Writer is a Store that gathers the objects of concurrent Put calls, across documents,
// into larger calls of the store below, one bucket at a time. Each caller gets the results
// of its own objects and waits only for them. The other methods go straight through.
//
// Bodies and metadata must not be changed after they were handed over, not even where Put
// has returned because its context was over.
type Writer struct {
	Store // what is read, listed and deleted goes straight to it

	set   WriterSettings
	count *semaphore.Weighted
	bytes *semaphore.Weighted

	ctx    context.Context // of the calls of the store below; ends when Close gives up
	cancel context.CancelCauseFunc
	work   sync.WaitGroup

	mu     sync.Mutex
	many   *waiting // what may be gathered
	urgent *waiting // what goes at once
	closed bool
	stats  WriterStats
}

// waiting is what waits for one kind of flushers. It is guarded by Writer.mu.
type waiting struct {
	linger time.Duration
	wake   chan struct{}         // one token: some flusher shall look at the queues
	queues map[string][]*portion // by bucket, oldest first
	order  []string              // buckets with a queue, in their turn
	busy   int                   // batches being written
}

func newWaiting(linger time.Duration) *waiting {
	return &waiting{linger: linger, wake: make(chan struct{}, 1), queues: map[string][]*portion{}}
}

var _ Store = (*Writer)(nil)

// NewWriter starts a writer over s. Close ends it.
func NewWriter(s Store, set WriterSettings) *Writer {
	set = set.withDefaults()
	w := &Writer{
		Store: s, set: set,
		count: semaphore.NewWeighted(int64(set.BacklogObjects)),
		bytes: semaphore.NewWeighted(set.BacklogBytes),
		many:  newWaiting(set.Linger), urgent: newWaiting(-1),
	}
	w.ctx, w.cancel = context.WithCancelCause(context.Background())
	for range set.Flushers {
		w.work.Go(func() { w.flusher(w.many) })
	}
	w.work.Go(func() { w.flusher(w.urgent) })
	return w
}

// Put implements Store. It returns when all its objects have their answer, or when ctx is
// over: then what has no answer yet has the verdict that the store is down, and may or may
// not be stored later.
func (w *Writer) Put(ctx context.Context, objects ...Object) []error {
	defer slot.Pause(ctx)()
	errs := make([]error, len(objects))
	portions := split(ctx, objects)
	for n, p := range portions {
		if err := w.admit(ctx, p); err != nil {
			for _, rest := range portions[n:] {
				rest.give(repeat(err, len(rest.objects)))
			}
			break
		}
	}
	for _, p := range portions {
		p.collect(ctx, errs)
	}
	return compact(errs)
}

// Close lets no more puts in, writes what was handed over, and returns when the flushers
// have ended. Where ctx is over before that, the calls under way are given up. Idempotent.
func (w *Writer) Close(ctx context.Context) error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.many.signal()
	w.urgent.signal()
	done := make(chan struct{})
	go func() { w.work.Wait(); close(done) }()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("close the writer of objects: %w", context.Cause(ctx))
		w.cancel(err)
		<-done
	}
	w.cancel(ErrClosed)
	return err
}

// Stats returns the counters as they are now.
func (w *Writer) Stats() WriterStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}

// admit takes room for p in the backlog and queues it.
func (w *Writer) admit(ctx context.Context, p *portion) error {
	// One that is larger than the whole backlog is let in when there is nothing else.
	p.room = min(int64(len(p.objects)), int64(w.set.BacklogObjects))
	p.roomBytes = min(p.size, w.set.BacklogBytes)
	if err := w.count.Acquire(ctx, p.room); err != nil {
		return fault.Down(fmt.Errorf("wait for the backlog of objects: %w", err))
	}
	if err := w.bytes.Acquire(ctx, p.roomBytes); err != nil {
		w.count.Release(p.room)
		return fault.Down(fmt.Errorf("wait for the backlog of objects: %w", err))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		w.count.Release(p.room)
		w.bytes.Release(p.roomBytes)
		return fault.Down(ErrClosed)
	}
	p.since = time.Now()
	q := w.many
	if IsUrgent(ctx) {
		q = w.urgent
	}
	if len(q.queues[p.bucket]) == 0 {
		q.order = append(q.order, p.bucket)
	}
	q.queues[p.bucket] = append(q.queues[p.bucket], p)
	w.stats.Backlog += len(p.objects)
	q.signal()
	return nil
}

// signal makes one flusher look at the queues. A flusher that leaves work behind passes it
// on.
func (q *waiting) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
