// Package ledger keeps, for each file_id, who owns it, which bytes it came with and how it
// ended. The terminal state of a document is taken here, once, by compare-and-set.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/failpoint"
)

// State says how far a document has come.
type State string

// The states of an entry.
const (
	Open  State = "open"  // accepted, on its way
	Taken State = "taken" // somebody is publishing its end
	Done  State = "done"  // it has ended
)

// Kind says how a document ended.
type Kind string

// The kinds of ends.
const (
	Completed Kind = "completed"
	Dead      Kind = "dead"
)

// Owner is the message that brought the document: where the broker stored it first.
type Owner struct {
	Stream string    `json:"stream"`
	Seq    uint64    `json:"seq"`
	Time   time.Time `json:"time"`
}

// Holder is who takes the terminal state.
type Holder struct {
	WorkID string `json:"work_id"`
	Replay int    `json:"replay"`
	Kind   Kind   `json:"kind"`
}

// Entry is what is known of a file_id.
type Entry struct {
	SHA256    string          `json:"sha256,omitzero"` // of the whole raw body, hex
	Owner     Owner           `json:"owner,omitzero"`
	Name      string          `json:"name,omitzero"` // file name
	Task      string          `json:"task,omitzero"`
	Provider  string          `json:"provider,omitzero"`
	CreatedAt time.Time       `json:"created_at,omitzero"`
	Layout    string          `json:"layout,omitzero"` // in which views it is stored, as it travels
	Replay    int             `json:"replay,omitzero"` // the highest replay count begun
	State     State           `json:"state"`
	Holder    Holder          `json:"holder,omitzero"` // who took the terminal state
	Stage     contract.Stage  `json:"stage,omitzero"`  // where it ended
	Reason    contract.Reason `json:"reason,omitzero"` // why, for dead letters
	At        time.Time       `json:"at,omitzero"`     // when the state was reached
}

// Opening is the answer to Open.
type Opening int

// What a message is to the ledger.
const (
	New       Opening = iota // the first message with this file_id
	Again                    // the same message, delivered or retried again
	Replayed                 // a replay with a higher count than any before
	Duplicate                // another message with the same bytes
	Conflict                 // another message with other bytes
)

// ErrContended is returned where others kept changing an entry; it may work later.
var ErrContended = errors.New("ledger entry keeps changing")

// tries bounds how often a compare-and-set is begun anew.
const tries = 16

// Ledger reads and writes entries. It may be used concurrently and from many processes.
type Ledger struct {
	kv     bus.KV
	ttl    time.Duration
	now    func() time.Time
	recent *Recent
}

// OpenLedger binds to the ledger of b. Entries leave ttl after their terminal state.
func OpenLedger(ctx context.Context, b bus.Bus, ttl time.Duration, now func() time.Time) (*Ledger, error) {
	kv, err := b.KV(ctx, contract.KVLedger)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	return &Ledger{kv: kv, ttl: ttl, now: now, recent: &Recent{}}, nil
}

// Share lets l know what other ledgers of the process wrote, before l is used.
func (l *Ledger) Share(r *Recent) { l.recent = r }

// Read returns the entry of a file_id. Error: bus.ErrNotFound.
func (l *Ledger) Read(ctx context.Context, fileID string) (Entry, error) {
	e, _, err := l.read(ctx, fileID)
	return e, err
}

func (l *Ledger) read(ctx context.Context, fileID string) (Entry, uint64, error) {
	raw, err := l.kv.Get(ctx, fileID)
	if err != nil {
		return Entry{}, 0, fmt.Errorf("read ledger entry %s: %w", fileID, err)
	}
	var e Entry
	if err := codec.Unmarshal(raw.Value, &e); err != nil {
		return Entry{}, 0, fmt.Errorf("read ledger entry %s: %w", fileID, err)
	}
	return e, raw.Revision, nil
}

// change applies f to the entry of a file_id until nobody else changed it meanwhile. f is
// given the entry, and found false where there is none; it returns false to leave it. f may
// be called several times; the last call counts.
func (l *Ledger) change(ctx context.Context, fileID string, f func(e *Entry, found bool) bool) error {
	if e, rev, ok := l.recent.get(fileID); ok && f(&e, true) {
		again, err := l.write(ctx, fileID, e, rev)
		if !again {
			return err
		}
	}
	for range tries {
		e, rev, err := l.read(ctx, fileID)
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return err
		}
		if !f(&e, err == nil) {
			return nil
		}
		again, err := l.write(ctx, fileID, e, rev)
		if !again {
			return err
		}
	}
	return fmt.Errorf("write ledger entry %s: %w", fileID, ErrContended)
}

// write writes an entry over the one of revision rev; 0 means that there was none. again says
// that somebody else changed it meanwhile.
func (l *Ledger) write(ctx context.Context, fileID string, e Entry, rev uint64) (again bool, err error) {
	e.At = l.now().UTC()
	value, err := codec.Marshal(e)
	if err != nil {
		return false, fmt.Errorf("write ledger entry %s: %w", fileID, err)
	}
	if rev > 0 {
		rev, err = l.kv.Update(ctx, fileID, value, rev, l.lifetime(&e))
	} else {
		rev, err = l.kv.Create(ctx, fileID, value, l.lifetime(&e))
	}
	if err != nil {
		l.recent.drop(fileID)
		again = errors.Is(err, bus.ErrExists) || errors.Is(err, bus.ErrRevision)
		return again, fmt.Errorf("write ledger entry %s: %w", fileID, err)
	}
	if e.State == Done {
		l.recent.drop(fileID)
	} else {
		l.recent.put(fileID, e, rev)
	}
	return false, nil
}

// lifetime is how long an entry stays from now on; 0 means until it has ended.
func (l *Ledger) lifetime(e *Entry) time.Duration {
	if e.State == Done {
		return l.ttl
	}
	return 0
}

// Open enters a document and says what its message is. e holds its identity; the entry
// that stands afterwards is returned. A conflict or duplicate changes nothing.
func (l *Ledger) Open(ctx context.Context, fileID string, e Entry) (Opening, Entry, error) {
	opening := New
	after := e
	after.State = Open
	// Most documents are new: one create spares the read.
	taken, err := l.write(ctx, fileID, after, 0)
	if !taken {
		return New, after, err
	}
	err = l.change(ctx, fileID, func(old *Entry, found bool) bool {
		switch {
		case !found:
			opening, after = New, e
			after.State = Open
			*old = after
			return true
		case e.Replay > old.Replay:
			old.Replay = e.Replay
			old.State, old.Holder, old.Stage, old.Reason = Open, Holder{}, "", ""
			old.Owner = e.Owner
			opening = Replayed
			if old.SHA256 == "" { // it died before it could be entered
				old.SHA256, old.Name, old.Task, old.Provider, old.CreatedAt, old.Layout = e.SHA256, e.Name, e.Task, e.Provider, e.CreatedAt, e.Layout
			}
			after = *old
			return true
		case old.Owner.Same(e.Owner):
			opening, after = Again, *old
			return false
		case e.Replay > 0 && e.Replay == old.Replay:
			// The replay was marked before its message came through.
			old.Owner = e.Owner
			opening, after = Replayed, *old
			return true
		case failpoint.Without(failpoint.Ledger):
			opening, after = New, e
			return false
		case old.SHA256 == e.SHA256:
			opening, after = Duplicate, *old
			return false
		default:
			opening, after = Conflict, *old
			return false
		}
	})
	return opening, after, err
}

// Same reports whether both are the same message.
func (o Owner) Same(p Owner) bool {
	return o.Stream == p.Stream && o.Seq == p.Seq && o.Time.Equal(p.Time)
}

// Rename writes down the file name under which a document is kept.
func (l *Ledger) Rename(ctx context.Context, fileID, name string) error {
	return l.change(ctx, fileID, func(e *Entry, found bool) bool {
		if !found || e.Name == name {
			return false
		}
		e.Name = name
		return true
	})
}

// Claim is the answer to Take.
type Claim int

// What became of a try to take the terminal state.
const (
	Won      Claim = iota // it is ours: publish, then Finish
	Resumed               // it was ours before, and may be published already: see Entry.At
	Finished              // we ended it before: nothing is left to publish
	Lost                  // somebody else ended it, or is about to
	Turned                // it was ours before, for the other kind of end, and may be published: see Entry.At
)

// Take takes the terminal state of a document for h. Whoever took it by the same work id
// and replay count before gets it again, unless it is already done; a higher replay count
// replaces a lower one. A document that was never entered is entered now, as e. The second
// value is when the state was taken.
func (l *Ledger) Take(ctx context.Context, fileID string, h Holder, e Entry) (Claim, time.Time, error) {
	claim, at := Won, l.now().UTC()
	err := l.change(ctx, fileID, func(old *Entry, found bool) bool {
		claim = Won
		if !found {
			*old = e
		}
		switch {
		case h.Replay < old.Replay:
			claim = Lost
			return false
		case !found || old.State == Open || h.Replay > old.Holder.Replay:
			// free
		case old.State == Taken && old.Holder.WorkID == h.WorkID && old.Holder.Replay == h.Replay && old.Holder.Kind != h.Kind:
			claim, at = Turned, old.At
			return false
		case old.Holder.WorkID != h.WorkID || old.Holder.Kind != h.Kind:
			claim = Lost
			return false
		case old.State == Done:
			claim = Finished
			return false
		default:
			claim, at = Resumed, old.At // no need to write it again
			return false
		}
		old.State, old.Holder = Taken, h
		old.Replay = max(old.Replay, h.Replay)
		old.Stage, old.Reason = e.Stage, e.Reason
		return true
	})
	return claim, at, err
}

// Turn gives h the terminal state that the same work took for the other kind of end and did
// not publish.
func (l *Ledger) Turn(ctx context.Context, fileID string, h Holder, e Entry) error {
	return l.change(ctx, fileID, func(old *Entry, found bool) bool {
		if !found || old.State != Taken || old.Holder.WorkID != h.WorkID || old.Holder.Replay != h.Replay || old.Holder.Kind == h.Kind {
			return false
		}
		old.Holder, old.Stage, old.Reason = h, e.Stage, e.Reason
		return true
	})
}

// Finish marks the terminal state that h took as done. Where h does not hold it any more,
// nothing changes.
func (l *Ledger) Finish(ctx context.Context, fileID string, h Holder) error {
	return l.change(ctx, fileID, func(e *Entry, found bool) bool {
		if !found || e.State != Taken || e.Holder != h {
			return false
		}
		e.State = Done
		return true
	})
}

// Replaying marks that replay number n of a document was published, so that an end that
// came before it no longer counts.
func (l *Ledger) Replaying(ctx context.Context, fileID string, n int) error {
	return l.change(ctx, fileID, func(e *Entry, found bool) bool {
		if !found || e.Replay >= n {
			return false
		}
		e.Replay, e.State, e.Holder, e.Stage, e.Reason = n, Open, Holder{}, "", ""
		return true
	})
}
