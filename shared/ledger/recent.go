package ledger

import "sync"

// recentEntries is how many entries a generation of Recent holds; two are kept, in about
// four megabytes at most.
const recentEntries = 4096

// Recent remembers the entries that this process wrote last, so that the next change of one
// needs no read first. What it says may be out of date: a write that builds on it is refused
// by its revision then, and nothing else may be decided by it. The zero value is empty. It
// may be used concurrently and by several ledgers.
type Recent struct {
	mu         sync.Mutex
	young, old map[string]recent
}

type recent struct {
	entry Entry
	rev   uint64
}

func (r *Recent) put(fileID string, e Entry, rev uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.young == nil || len(r.young) >= recentEntries {
		r.old, r.young = r.young, make(map[string]recent)
	}
	r.young[fileID] = recent{e, rev}
}

func (r *Recent) get(fileID string) (Entry, uint64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	found, ok := r.young[fileID]
	if !ok {
		found, ok = r.old[fileID]
	}
	return found.entry, found.rev, ok
}

// drop forgets an entry that has ended, or that turned out to be out of date.
func (r *Recent) drop(fileID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.young, fileID)
	delete(r.old, fileID)
}
