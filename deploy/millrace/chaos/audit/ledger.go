package audit

import (
	"bytes"
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
	// Doubtful how many more may have been.
	Conflicts, Doubtful int
	// Same is how many messages with its own bytes were accepted, under message ids that differ,
	// and SameDoubtful how many more may have been.
	Same, SameDoubtful int
}

// conflicting returns how many messages are dead letters because their bytes are not those of
// the document, at least and at most; otherWon says that one with other bytes was taken first.
func (e *Entry) conflicting(otherWon bool) (least, most int) {
	if otherWon {
		return e.Same, e.Same + e.SameDoubtful
	}
	return e.Conflicts, e.Conflicts + e.Doubtful
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

// Accepted marks a document as accepted by the broker, after so many tries.
func (l *Ledger) Accepted(id string, tries int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.sent[id]; e != nil && !e.Confirmed {
		e.Confirmed = true
		e.Same, e.SameDoubtful = e.Same+1, e.SameDoubtful+tries-1
		l.confirmed++
		l.unknown--
	}
}

// Copied enters that a copy of a document was sent, so many times until it was accepted.
func (l *Ledger) Copied(d *Document, c Copy, confirmed bool, tries int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.copies++
	e := l.sent[d.ID]
	switch {
	case e == nil:
	case bytes.Equal(c.Body, d.Body):
		if confirmed && c.MsgID != d.ID {
			e.Same++
			tries--
		}
		e.SameDoubtful += tries // a broker that was killed may have forgotten an id
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
