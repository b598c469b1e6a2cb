package operate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/store"
)

// ErrNoLetter says that a dead letter does not exist.
var ErrNoLetter = errors.New("no such dead letter")

// ledgerParallel is how many ledger entries are read at one time.
const ledgerParallel = 16

// DeadLetters reads the dead-letter queue and changes it on demand.
type DeadLetters struct {
	Bus    bus.Bus
	Ledger *ledger.Ledger
	// Store gives the object store; it is asked for only where a body is an object.
	Store func(ctx context.Context) (store.Store, error)
}

// Filter selects dead letters; empty fields select all.
type Filter struct {
	Stage  contract.Stage
	Reason contract.Reason
	FileID string
	Since  time.Time // that failed at or after this time
	Seqs   []uint64
	// All selects those too that have been replayed.
	All bool
	// Newest bounds the selection to the newest ones; 0 means no bound.
	Newest int
}

// Validate returns everything that is wrong with f.
func (f Filter) Validate() error {
	var errs []error
	if f.Stage != "" && !slices.Contains(contract.Stages(), f.Stage) {
		errs = append(errs, fmt.Errorf("stage %q is not one of %v", f.Stage, contract.Stages()))
	}
	if f.Reason != "" && !slices.Contains(contract.Reasons(), f.Reason) {
		errs = append(errs, fmt.Errorf("reason %q is not one of %v", f.Reason, contract.Reasons()))
	}
	if f.Newest < 0 {
		errs = append(errs, fmt.Errorf("limit %d is below 0", f.Newest))
	}
	return errors.Join(errs...)
}

// subject returns the subjects of dead letters that f can select.
func (f Filter) subject() string {
	stage, reason := string(f.Stage), string(f.Reason)
	if stage == "" {
		stage = "*"
	}
	if reason == "" {
		reason = "*"
	}
	return strings.Join([]string{contract.RootDLQ, stage, reason}, ".")
}

func (f Filter) matches(l *Letter) bool {
	return (f.FileID == "" || l.FileID == f.FileID) &&
		(f.Since.IsZero() || !l.FailedAt.Before(f.Since)) &&
		(len(f.Seqs) == 0 || slices.Contains(f.Seqs, l.Seq)) &&
		(f.Stage == "" || l.Stage == f.Stage) && (f.Reason == "" || l.Reason == f.Reason)
}

// List returns the selected dead letters, oldest first, without their bodies.
func (q *DeadLetters) List(ctx context.Context, f Filter) ([]Letter, error) {
	letters, err := q.scan(ctx, f)
	if err != nil {
		return nil, err
	}
	return q.choose(ctx, letters, f)
}

// scan reads what f can select but for replays.
func (q *DeadLetters) scan(ctx context.Context, f Filter) ([]Letter, error) {
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
		if l := ReadLetter(m); f.matches(&l) {
			letters = append(letters, l)
		}
	}
	return letters, nil
}

// choose marks the letters that have been replayed, leaves them out unless all are wanted,
// and keeps the newest. It begins at the newest, so that a short list is quick.
func (q *DeadLetters) choose(ctx context.Context, letters []Letter, f Filter) ([]Letter, error) {
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
func (q *DeadLetters) mark(ctx context.Context, letters []Letter, highest map[string]int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(ledgerParallel)
	for i := range letters {
		l := &letters[i]
		if l.Replayed = highest[l.FileID] > l.Replays; l.Replayed || l.FileID == "" {
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
func (q *DeadLetters) replayed(ctx context.Context, l *Letter) (bool, error) {
	n, err := q.count(ctx, l.FileID)
	if err != nil || n > l.Replays {
		return n > l.Replays, err
	}
	kv, err := q.Bus.KV(ctx, contract.KVLedger)
	if err != nil {
		return false, err
	}
	_, err = kv.Get(ctx, markKey(l.Seq))
	if errors.Is(err, bus.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// markKey names the mark of a replayed letter in the ledger. No file_id has a dot.
func markKey(seq uint64) string { return "dlq." + strconv.FormatUint(seq, 10) }

// markReplayed writes down that a letter was replayed, as the given count of its document.
func (q *DeadLetters) markReplayed(ctx context.Context, l *Letter, count int) error {
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
func (q *DeadLetters) count(ctx context.Context, fileID string) (int, error) {
	e, err := q.Ledger.Read(ctx, fileID)
	if errors.Is(err, bus.ErrNotFound) {
		return 0, nil
	}
	return e.Replay, err
}

// get reads one dead letter with its body.
func (q *DeadLetters) get(ctx context.Context, seq uint64) (Letter, []byte, error) {
	m, err := q.Bus.Get(ctx, contract.StreamDLQ, seq)
	if errors.Is(err, bus.ErrNotFound) {
		return Letter{}, nil, fmt.Errorf("%d: %w", seq, ErrNoLetter)
	}
	if err != nil {
		return Letter{}, nil, err
	}
	return ReadLetter(m), m.Body, nil
}

// Show returns one dead letter and its body: by sequence, or the newest of a file_id. Where
// the body is an object it is read from there, unless the object is gone. Error: ErrNoLetter.
func (q *DeadLetters) Show(ctx context.Context, seq uint64, fileID string) (Letter, []byte, error) {
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
func (q *DeadLetters) object(ctx context.Context, name string) ([]byte, error) {
	ref, ok := parseRef(name)
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
func (q *DeadLetters) Remove(ctx context.Context, letters []Letter) (int, error) {
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

// Count is how many dead letters one stage has for one reason.
type Count struct {
	Stage  contract.Stage  `json:"stage"`
	Reason contract.Reason `json:"reason"`
	Count  int             `json:"count"`
}

// CountLetters counts letters by stage and reason, in the order of the line.
func CountLetters(letters []Letter) []Count {
	var counts []Count
	for i := range letters {
		l := &letters[i]
		at := slices.IndexFunc(counts, func(c Count) bool { return c.Stage == l.Stage && c.Reason == l.Reason })
		if at < 0 {
			at = len(counts)
			counts = append(counts, Count{Stage: l.Stage, Reason: l.Reason})
		}
		counts[at].Count++
	}
	slices.SortStableFunc(counts, func(a, b Count) int {
		if d := slices.Index(contract.Stages(), a.Stage) - slices.Index(contract.Stages(), b.Stage); d != 0 {
			return d
		}
		return strings.Compare(string(a.Reason), string(b.Reason))
	})
	return counts
}
