// Package letters is the dead letters: it reads and groups them, and sends them through the line
// again, one at once or many as a job that the line itself carries out. It guarantees that a
// letter is marked as replayed only when its replay is confirmed, and that a job which is
// broken off anywhere goes on where it stopped.
package letters

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/store"
)

// ErrNoLetter says that a dead letter does not exist.
var ErrNoLetter = errors.New("no such dead letter")

const (
	// ledgerParallel is how many ledger entries are read at one time.
	ledgerParallel = 16
	// scanSlack is how far the clocks of stages and of the broker may be apart.
	scanSlack = time.Minute
)

// Queue reads the dead-letter queue and changes it on demand.
type Queue struct {
	Bus    bus.Bus
	Ledger *ledger.Ledger
	// Store gives the object store; it is asked for only where a body is an object.
	Store func(ctx context.Context) (store.Store, error)
	// MaxReplays is how often a document is replayed at most; 0 means without end.
	MaxReplays int
}

// List returns the selected dead letters, oldest first, without their bodies.
func (q *Queue) List(ctx context.Context, f Filter) ([]Letter, error) {
	letters, err := q.scan(ctx, f)
	if err != nil {
		return nil, err
	}
	return q.choose(ctx, letters, f)
}

// scan reads what f can select but for replays.
func (q *Queue) scan(ctx context.Context, f Filter) ([]Letter, error) {
	var letters []Letter
	if len(f.Seqs) > 0 {
		for _, seq := range slices.Compact(slices.Sorted(slices.Values(f.Seqs))) {
			l, _, err := q.get(ctx, seq)
			if errors.Is(err, ErrNoLetter) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if f.matches(&l) {
				letters = append(letters, l)
			}
		}
		return letters, nil
	}
	from := uint64(0)
	if !f.Since.IsZero() {
		var err error
		// Failed at is the clock of a stage, the order that of the broker.
		if from, err = q.Bus.SeqAt(ctx, contract.StreamDLQ, f.Since.Add(-scanSlack)); err != nil {
			return nil, err
		}
	}
	for m, err := range q.Bus.Scan(ctx, contract.StreamDLQ, f.subject(), from) {
		if err != nil {
			return nil, err
		}
		if l := Read(m); f.matches(&l) {
			letters = append(letters, l)
		}
	}
	return letters, nil
}

// choose marks the letters that have been replayed, leaves them out unless all are wanted,
// and keeps the newest. It begins at the newest, so that a short list is quick.
func (q *Queue) choose(ctx context.Context, letters []Letter, f Filter) ([]Letter, error) {
	highest := map[string]int{} // the replay count of the newest letter of a document
	for i := range letters {
		highest[letters[i].FileID] = max(highest[letters[i].FileID], letters[i].Replays)
	}
	var chosen []Letter
	for len(letters) > 0 && (f.Newest == 0 || len(chosen) < f.Newest) {
		n := max(len(letters)-4*ledgerParallel, 0)
		part := letters[n:]
		letters = letters[:n]
		if err := q.mark(ctx, part, highest); err != nil {
			return nil, err
		}
		for _, l := range slices.Backward(part) {
			if (f.All || !l.Replayed) && (f.Newest == 0 || len(chosen) < f.Newest) {
				chosen = append(chosen, l)
			}
		}
	}
	slices.Reverse(chosen)
	return chosen, nil
}

// mark sets Replayed by what the ledger says and by the later letters of the same document.
func (q *Queue) mark(ctx context.Context, letters []Letter, highest map[string]int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(ledgerParallel)
	for i := range letters {
		l := &letters[i]
		if l.Replayed = highest[l.FileID] > l.Replays; l.Replayed || !doc.ValidID(l.FileID) {
			continue
		}
		g.Go(func() (err error) {
			l.Replayed, err = q.replayed(ctx, l)
			return err
		})
	}
	return g.Wait()
}

// replayed reports whether a letter has been replayed: by the replay count of its document,
// which the ledger forgets after a while, or by the mark of the letter itself, which stays.
func (q *Queue) replayed(ctx context.Context, l *Letter) (bool, error) {
	n, err := q.count(ctx, l.FileID)
	if err != nil || n > l.Replays {
		return n > l.Replays, err
	}
	n, err = q.marked(ctx, l.Seq)
	return n > 0, err
}

// marked returns the count with which a letter was replayed, 0 where it was not.
func (q *Queue) marked(ctx context.Context, seq uint64) (int, error) {
	kv, err := q.Bus.KV(ctx, contract.KVLedger)
	if err != nil {
		return 0, err
	}
	e, err := kv.Get(ctx, markKey(seq))
	if errors.Is(err, bus.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(string(e.Value))
	if err != nil {
		return 0, fmt.Errorf("read the mark of dead letter %d: %w", seq, err)
	}
	return n, nil
}

// markKey names the mark of a replayed letter in the ledger. No file_id has a dot.
func markKey(seq uint64) string { return "dlq." + strconv.FormatUint(seq, 10) }

// markReplayed writes down that a letter was replayed, as the given count of its document.
func (q *Queue) markReplayed(ctx context.Context, l *Letter, count int) error {
	if err := q.Ledger.Replaying(ctx, l.FileID, count); err != nil {
		return err
	}
	kv, err := q.Bus.KV(ctx, contract.KVLedger)
	if err != nil {
		return err
	}
	_, err = kv.Put(ctx, markKey(l.Seq), []byte(strconv.Itoa(count)), 0)
	return err
}

// count returns the highest replay count that the ledger knows of a document.
func (q *Queue) count(ctx context.Context, fileID string) (int, error) {
	e, err := q.Ledger.Read(ctx, fileID)
	if errors.Is(err, bus.ErrNotFound) {
		return 0, nil
	}
	return e.Replay, err
}

// get reads one dead letter with its body.
func (q *Queue) get(ctx context.Context, seq uint64) (Letter, []byte, error) {
	m, err := q.Bus.Get(ctx, contract.StreamDLQ, seq)
	if errors.Is(err, bus.ErrNotFound) {
		return Letter{}, nil, fmt.Errorf("%d: %w", seq, ErrNoLetter)
	}
	if err != nil {
		return Letter{}, nil, err
	}
	return Read(m), m.Body, nil
}

// Show returns one dead letter and its body: by sequence, or the newest of a file_id. Where
// the body is an object it is read from there, unless the object is gone. Error: ErrNoLetter.
func (q *Queue) Show(ctx context.Context, seq uint64, fileID string) (Letter, []byte, error) {
	if seq == 0 {
		found, err := q.scan(ctx, Filter{FileID: fileID})
		if err != nil {
			return Letter{}, nil, err
		}
		if len(found) == 0 {
			return Letter{}, nil, fmt.Errorf("of file_id %s: %w", fileID, ErrNoLetter)
		}
		seq = found[len(found)-1].Seq
	}
	l, body, err := q.get(ctx, seq)
	if err != nil {
		return l, nil, err
	}
	if l.Replayed, err = q.replayed(ctx, &l); err != nil {
		return l, nil, err
	}
	if l.Object == "" {
		return l, body, nil
	}
	whole, err := q.object(ctx, l.Object)
	if errors.Is(err, store.ErrNotFound) {
		return l, body, nil
	}
	return l, whole, err
}

// object reads the body of a dead letter that is an object.
func (q *Queue) object(ctx context.Context, name string) ([]byte, error) {
	ref, ok := store.ParseRef(name)
	if !ok {
		return nil, fmt.Errorf("header %s is %q, which names no object", contract.HeaderObject, name)
	}
	s, err := q.Store(ctx)
	if err != nil {
		return nil, fmt.Errorf("the body is the object %s: %w", ref, err)
	}
	o, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	return o.Body, nil
}

// Remove deletes dead letters for good, oldest first, and returns how many it deleted. One
// that is gone already counts as deleted.
func (q *Queue) Remove(ctx context.Context, letters []Letter) (int, error) {
	kv, err := q.Bus.KV(ctx, contract.KVLedger)
	if err != nil {
		return 0, err
	}
	for i := range letters {
		err := q.Bus.Delete(ctx, contract.StreamDLQ, letters[i].Seq)
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return i, err
		}
		if letters[i].Replayed {
			if err := kv.Delete(ctx, markKey(letters[i].Seq)); err != nil {
				return i, err
			}
		}
	}
	return len(letters), nil
}
