package announce

import (
	"bytes"
	"context"
	"hash/maphash"
	"sync"
	"time"

	"github.com/jobspy/millrace/shared/slot"
	"github.com/jobspy/millrace/shared/store"
)

// DefaultMemory is how many objects a Witness remembers at least: those of about twenty
// thousand documents, in some 20 MB at most.
const DefaultMemory = 250_000

// Witness remembers which objects were announced lately. It may be used concurrently. Of a
// name it keeps a sum of 64 bits under a seed of its own.
type Witness struct {
	memory int
	seed   maphash.Seed

	mu      sync.Mutex
	young   map[uint64]struct{}
	old     map[uint64]struct{} // the generation before, dropped when young is full
	waiting map[uint64][]*wait
}

// wait is somebody who waits for objects.
type wait struct {
	left int           // how many are not announced yet; guarded by Witness.mu
	done chan struct{} // closed when left is 0
}

// NewWitness returns a Witness that remembers at least memory objects, and at most twice as
// many; 0 means DefaultMemory.
func NewWitness(memory int) *Witness {
	if memory <= 0 {
		memory = DefaultMemory
	}
	return &Witness{
		memory: memory, seed: maphash.MakeSeed(),
		young: map[uint64]struct{}{}, waiting: map[uint64][]*wait{},
	}
}

// Hear takes in the body of an announcement.
func (w *Witness) Hear(body []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range bytes.SplitSeq(body, []byte{'\n'}) {
		sum := maphash.Bytes(w.seed, name)
		w.young[sum] = struct{}{}
		for _, one := range w.waiting[sum] {
			if one.left--; one.left == 0 {
				close(one.done)
			}
		}
		delete(w.waiting, sum)
	}
	if len(w.young) >= w.memory {
		w.old, w.young = w.young, make(map[uint64]struct{}, w.memory)
	}
}

// Await returns those of refs that were not announced, at the latest after patience: nil
// where all were. A wait is no work: the slot of ctx is given back meanwhile.
func (w *Witness) Await(ctx context.Context, refs []store.Ref, patience time.Duration) []store.Ref {
	one, sums := w.enter(refs)
	if one == nil {
		return nil
	}
	resume := slot.Pause(ctx)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-one.done:
	case <-timer.C:
	case <-ctx.Done():
	}
	resume()
	return w.leave(one, refs, sums)
}

// enter registers a wait for those of refs that are not known. The wait is nil where all are.
func (w *Witness) enter(refs []store.Ref) (*wait, []uint64) {
	one := &wait{done: make(chan struct{})}
	sums := make([]uint64, len(refs))
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, r := range refs {
		sums[i] = maphash.String(w.seed, r.String())
		if !w.knows(sums[i]) {
			one.left++
			w.waiting[sums[i]] = append(w.waiting[sums[i]], one)
		}
	}
	if one.left == 0 {
		return nil, nil
	}
	return one, sums
}

// leave takes the wait back and returns what is still missing.
func (w *Witness) leave(one *wait, refs []store.Ref, sums []uint64) []store.Ref {
	w.mu.Lock()
	defer w.mu.Unlock()
	if one.left == 0 {
		return nil
	}
	var missing []store.Ref
	for i, sum := range sums {
		if w.knows(sum) {
			continue
		}
		missing = append(missing, refs[i])
		others := w.waiting[sum][:0]
		for _, other := range w.waiting[sum] {
			if other != one {
				others = append(others, other)
			}
		}
		if w.waiting[sum] = others; len(others) == 0 {
			delete(w.waiting, sum)
		}
	}
	return missing
}

// knows is called with mu held.
func (w *Witness) knows(sum uint64) bool {
	if _, ok := w.young[sum]; ok {
		return true
	}
	_, ok := w.old[sum]
	return ok
}
