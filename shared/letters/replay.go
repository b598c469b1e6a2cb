package letters

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/inbox"
	"github.com/jobspy/millrace/shared/store"
)

// Replay says how dead letters are sent through the line again.
type Replay struct {
	// Patch is a JSON merge patch on each body; nil means none.
	Patch []byte `json:"patch,omitzero"`
	// To is the stage that gets them; empty means the one that failed.
	To contract.Stage `json:"to_stage,omitzero"`
}

// Replayed is what became of one replay.
type Replayed struct {
	Seq     uint64 `json:"seq"` // of the dead letter
	FileID  string `json:"file_id"`
	Subject string `json:"subject,omitzero"`
	Count   int    `json:"count,omitzero"` // the replay count it was sent with
	Error   string `json:"error,omitzero"`
}

// What a caller may branch on.
var (
	// ErrReplayed says that the broker has this replay already.
	ErrReplayed = errors.New("this replay has been published before")
	// ErrTooMany says that a document has been replayed as often as it may be.
	ErrTooMany = errors.New("too many replays")
)

// Send sends one dead letter through the line again: it publishes, waits for the confirmation,
// and then marks the original as replayed. What is known of the replay is returned even with an
// error.
func (q *Queue) Send(ctx context.Context, seq uint64, r Replay) (Replayed, error) {
	done := Replayed{Seq: seq}
	l, body, err := q.get(ctx, seq)
	if err != nil {
		return done, err
	}
	done.FileID = l.FileID
	if done.Count, err = q.next(ctx, &l); err != nil {
		return done, err
	}
	m, err := q.message(ctx, &l, body, r, done.Count)
	if err != nil {
		return done, err
	}
	done.Subject = m.Subject
	receipt, err := bus.Insist(ctx, q.Bus, m)
	if err != nil {
		return done, err
	}
	if err := q.markReplayed(ctx, &l, done.Count); err != nil {
		return done, fmt.Errorf("published, but not marked as replayed: %w", err)
	}
	if receipt.Duplicate {
		return done, fmt.Errorf("%w, as message %d of %s", ErrReplayed, receipt.Seq, receipt.Stream)
	}
	return done, nil
}

// next returns the count with which a letter would be replayed now. Error: ErrTooMany.
func (q *Queue) next(ctx context.Context, l *Letter) (int, error) {
	if !doc.ValidID(l.FileID) {
		return 0, fmt.Errorf("the dead letter has no valid %s", contract.HeaderFileID)
	}
	known, err := q.count(ctx, l.FileID)
	if err != nil {
		return 0, err
	}
	n := max(l.Replays, known) + 1
	return n, q.Allows(n)
}

// Allows says whether a replay may have a count. Error: ErrTooMany.
func (q *Queue) Allows(count int) error {
	if q.MaxReplays > 0 && count > q.MaxReplays {
		return fmt.Errorf("%w: the document has been replayed %d times, REPLAY_MAX is %d", ErrTooMany, count-1, q.MaxReplays)
	}
	return nil
}

// message makes the message of a replay.
func (q *Queue) message(ctx context.Context, l *Letter, body []byte, r Replay, count int) (bus.Message, error) {
	to := l.to(r)
	subject, err := replaySubject(l, r.To)
	if err != nil {
		return bus.Message{}, err
	}
	m := bus.Message{
		Subject: subject, ID: fmt.Sprintf("%s:replay:0:r%d", l.FileID, count),
		Header: replayHeaders(l, count), Body: body,
	}
	moved := l.Object != "" && to != l.Stage && (to == contract.Ingest || l.Stage == contract.Ingest)
	if r.Patch == nil && !moved && to == l.Stage {
		return m, q.accepts(ctx, to, l.Object)
	}
	if m.Body, err = q.reshaped(ctx, l, body, r, m.Header); err != nil {
		return m, err
	}
	delete(m.Header, contract.HeaderObject)
	if len(m.Body) > inbox.MaxMessage {
		err = q.checkIn(ctx, &m, l, to, count)
	}
	return m, err
}

// reshaped returns the whole body of a replay that is not what failed, and changes the headers
// that speak of it.
func (q *Queue) reshaped(ctx context.Context, l *Letter, body []byte, r Replay, h bus.Header) ([]byte, error) {
	if l.Object != "" {
		var err error
		if body, err = q.object(ctx, l.Object); err != nil {
			return nil, err
		}
	}
	return reshape(l, body, l.to(r), r.Patch, h)
}

// Preview returns which stage a replay of a letter would go to, and its whole body.
func (q *Queue) Preview(ctx context.Context, seq uint64, r Replay) (to contract.Stage, body []byte, err error) {
	l, body, err := q.get(ctx, seq)
	if err != nil {
		return "", nil, err
	}
	body, err = q.reshaped(ctx, &l, body, r, replayHeaders(&l, 0))
	return l.to(r), body, err
}

// to returns the stage that gets the letter's replay.
func (l *Letter) to(r Replay) contract.Stage {
	if r.To != "" {
		return r.To
	}
	return l.Stage
}

// accepts says what is wrong with an object that a stage is sent: only under its own prefix
// a stage takes one, and it has to be there.
func (q *Queue) accepts(ctx context.Context, to contract.Stage, object string) error {
	if object == "" {
		return nil
	}
	bucket, prefix := contract.BucketProcessed, contract.ClaimPrefix
	if to == contract.Ingest {
		bucket, prefix = contract.BucketRaw, contract.InboxPrefix
	}
	ref, ok := store.ParseRef(object)
	if !ok || ref.Bucket != bucket || !strings.HasPrefix(ref.Key, prefix) {
		return fmt.Errorf("the body is the object %q, and stage %s takes objects only under %s/%s", object, to, bucket, prefix)
	}
	s, err := q.Store(ctx)
	if err != nil {
		return fmt.Errorf("the body is the object %s: %w", ref, err)
	}
	if _, err := s.Stat(ctx, ref); err != nil {
		return fmt.Errorf("the body is an object: %w", err)
	}
	return nil
}

// replaySubject returns where a replay is published: where the letter came from, else the
// queue of its stage, or of the stage that was asked for.
func replaySubject(l *Letter, asked contract.Stage) (string, error) {
	to := l.Stage
	if asked != "" {
		to = asked
	}
	if !slices.Contains(contract.Stages(), to) {
		return "", fmt.Errorf("the dead letter is of stage %q, which does not exist", to)
	}
	// Only the stage's own queue is believed.
	if to == l.Stage && strings.HasPrefix(l.Origin.Subject, contract.StageRoot(to)+".") {
		return l.Origin.Subject, nil
	}
	task, provider := token(doc.ValidID, l.Task), token(doc.ValidProvider, l.Provider)
	lane := l.Lane
	if !lane.Valid() {
		lane = contract.Low
	}
	switch to {
	case contract.Ingest:
		return contract.RawSubject(task, provider, lane), nil
	case contract.Scrape:
		source := l.header[contract.HeaderSource]
		if !doc.ValidID(source) {
			return "", errors.New("the dead letter names no source, so scrape cannot take it")
		}
		return contract.StageSubject(to, lane, task, source), nil
	default:
		return contract.StageSubject(to, lane, task, provider), nil
	}
}

// leftBehind are the headers that tell of the failed attempt and not of the document.
var leftBehind = []string{
	contract.HeaderAttempt, contract.HeaderFailures, contract.HeaderStage, contract.HeaderProducerFileID,
}

// replayHeaders returns the headers of a replay. It is an allow-list: of the dead letter
// only headers of ours go on.
func replayHeaders(l *Letter, count int) bus.Header {
	h := bus.Header{}
	for _, name := range contract.Headers() {
		if value := l.header[name]; value != "" && !slices.Contains(leftBehind, name) {
			h[name] = value
		}
	}
	h[contract.HeaderReplayOf] = strconv.FormatUint(l.Seq, 10)
	h[contract.HeaderReplayCount] = strconv.Itoa(count)
	return h
}

// token returns s where it is valid, else the word for what is not known.
func token(valid func(string) bool, s string) string {
	if valid(s) {
		return s
	}
	return contract.Unknown
}
