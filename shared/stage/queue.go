package stage

import (
	"context"
	"sync"
	"time"

	"github.com/jobspy/millrace/shared/contract"
)

// due is the lane of work that comes back from a schedule. It was first in line once
// already, so it goes before the others.
const due contract.Lane = "due"

// shares are the lanes in the order in which they are asked, and how many documents each
// may send before the next one has its turn. No lane starves another.
var shares = []struct {
	lane  contract.Lane
	share int
}{{due, 16}, {contract.High, 8}, {contract.Normal, 3}, {contract.Low, 1}}

// queue holds what was delivered and not begun, a list per lane. It is bounded by the
// credits of the consumers that fill it.
type queue struct {
	mu     sync.Mutex
	lanes  map[contract.Lane][]*work
	left   map[contract.Lane]int
	pause  time.Duration // between two of the bulk lanes; 0 is none
	rests  bool          // the bulk lanes wait for the end of a pause
	filled chan struct{} // holds a token while there may be something to take
}

func newQueue() *queue {
	return &queue{
		lanes: map[contract.Lane][]*work{}, left: map[contract.Lane]int{},
		filled: make(chan struct{}, 1),
	}
}

func (q *queue) put(lane contract.Lane, w *work) {
	q.mu.Lock()
	q.lanes[lane] = append(q.lanes[lane], w)
	q.mu.Unlock()
	q.wake()
}

func (q *queue) wake() { token(q.filled) }

// await waits until there is work to take.
func (q *queue) await(ctx context.Context) error {
	for !q.some() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-q.filled:
		}
	}
	return nil
}

// some reports whether there is work to take.
func (q *queue) some() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for lane, list := range q.lanes {
		bulk := lane == contract.Normal || lane == contract.Low
		if len(list) > 0 && !(bulk && q.rests) {
			return true
		}
	}
	return false
}

// next returns the most urgent work whose lane has a share left, and its lane; nil where
// there is none.
func (q *queue) next() (*work, contract.Lane) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for range 2 {
		for _, s := range shares {
			list := q.lanes[s.lane]
			bulk := s.lane == contract.Normal || s.lane == contract.Low
			if len(list) == 0 || q.left[s.lane] == 0 || bulk && q.rests {
				continue
			}
			if bulk && q.pause > 0 {
				q.rests = true
				time.AfterFunc(q.pause, q.rested)
			}
			q.left[s.lane]--
			w := list[0]
			list[0] = nil
			q.lanes[s.lane] = list[1:]
			return w, s.lane
		}
		for _, s := range shares {
			q.left[s.lane] = s.share
		}
	}
	return nil, ""
}

// trickle makes a pause after each document of the bulk lanes, normal and low; 0 ends that.
func (q *queue) trickle(pause time.Duration) {
	q.mu.Lock()
	q.pause = pause
	q.mu.Unlock()
	if pause == 0 {
		q.rested()
	}
}

// rested ends a pause of the bulk lanes.
func (q *queue) rested() {
	q.mu.Lock()
	q.rests = false
	q.mu.Unlock()
	q.wake()
}

// drain empties the queue and returns what was in it.
func (q *queue) drain() []*work {
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []*work
	for lane, list := range q.lanes {
		all = append(all, list...)
		q.lanes[lane] = nil
	}
	return all
}
