package audit

import (
	"maps"
	"slices"
	"sync"
)

// Ledger keeps what was sent. It may be used concurrently.
type Ledger struct {
	mu   sync.Mutex
	sent map[string]*Entry
	ends map[string]bool // file_ids of which a record or a dead letter was seen

	confirmed, unknown, conflicts, copies int
}

// Entry is one document that was sent.
type Entry struct {
	Document
	// Confirmed says that the broker accepted it. What is not confirmed is unknown: it may be
	// in the line or not.
	Confirmed bool
	// Conflicts is how many messages with the same file_id and other bytes were accepted, and
	// Doubtful how many of them may have been.
	Conflicts, Doubtful int
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{sent: map[string]*Entry{}, ends: map[string]bool{}}
}

// Sending enters a document before it is sent.
func (l *Ledger) Sending(d Document) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent[d.ID] = &Entry{Document: d}
	l.unknown++
}

// Accepted marks a document as accepted by the broker.
func (l *Ledger) Accepted(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.sent[id]; e != nil && !e.Confirmed {
		e.Confirmed = true
		l.confirmed++
		l.unknown--
	}
}

// Copied enters that a copy was sent, so many times until it was accepted: one with the same
// bytes, or a conflict.
func (l *Ledger) Copied(id string, conflict, confirmed bool, tries int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.copies++
	e := l.sent[id]
	switch {
	case !conflict || e == nil:
	case confirmed:
		e.Conflicts++
		e.Doubtful += tries - 1
		l.conflicts++
	default:
		e.Doubtful += tries
	}
}

// Ended notes that a record or a dead letter of a document was seen.
func (l *Ledger) Ended(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends[id] = true
}

// InFlight lists the documents that were accepted and have not ended.
func (l *Ledger) InFlight() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []string
	for id, e := range l.sent {
		if e.Confirmed && !l.ends[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// Remain returns those of ids that have not ended.
func (l *Ledger) Remain(ids []string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return l.ends[id] })
}

// Counts says how much was sent.
type Counts struct {
	Confirmed, Unknown, Copies, Conflicts, Ended int
}

// Counts returns how much was sent so far.
func (l *Ledger) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Counts{Confirmed: l.confirmed, Unknown: l.unknown, Copies: l.copies, Conflicts: l.conflicts, Ended: len(l.ends)}
}

// entries returns a copy of what is in the ledger.
func (l *Ledger) entries() map[string]Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make(map[string]Entry, len(l.sent))
	for id, e := range maps.All(l.sent) {
		all[id] = *e
	}
	return all
}
