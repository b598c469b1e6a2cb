package operate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/time/rate"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
)

// Replay says how dead letters are sent through the line again.
type Replay struct {
	// Patch is a JSON merge patch on each body; nil means none.
	Patch []byte
	// To is the stage that gets them; empty means the one that failed.
	To contract.Stage
	// Rate bounds how many are sent in a second; 0 means no bound.
	Rate float64
}

// Replayed is what became of one replay.
type Replayed struct {
	Seq     uint64 `json:"seq"` // of the dead letter
	FileID  string `json:"file_id"`
	Subject string `json:"subject,omitzero"`
	Count   int    `json:"count,omitzero"` // the replay count it was sent with
	Error   string `json:"error,omitzero"`
}

// ErrReplayed says that the broker has this replay already.
var ErrReplayed = errors.New("this replay has been published before")

// Replay sends dead letters through the line again, in their order, and calls report for
// each. An error of one does not stop the others, unless the broker does not answer any more.
func (q *DeadLetters) Replay(ctx context.Context, letters []Letter, r Replay, report func(Replayed, error)) error {
	limit := rate.NewLimiter(rate.Inf, 1)
	if r.Rate > 0 {
		limit.SetLimit(rate.Limit(r.Rate))
	}
	for i := range letters {
		if err := limit.Wait(ctx); err != nil {
			return fmt.Errorf("replay: %w", err)
		}
		done := Replayed{Seq: letters[i].Seq, FileID: letters[i].FileID}
		err := q.replay(ctx, letters[i].Seq, r, &done)
		if err != nil {
			done.Error = err.Error()
		}
		report(done, err)
		if err != nil && unknown(err) {
			return fmt.Errorf("stopped after dead letter %d: %w", done.Seq, err)
		}
	}
	return nil
}

// replay sends one dead letter: it publishes, waits for the confirmation, and then marks the
// original as replayed.
func (q *DeadLetters) replay(ctx context.Context, seq uint64, r Replay, done *Replayed) error {
	l, body, err := q.get(ctx, seq)
	if err != nil {
		return err
	}
	done.FileID = l.FileID
	if !doc.ValidID(l.FileID) {
		return fmt.Errorf("the dead letter has no valid %s", contract.HeaderFileID)
	}
	known, err := q.count(ctx, l.FileID)
	if err != nil {
		return err
	}
	done.Count = max(l.Replays, known) + 1
	m, err := q.message(ctx, &l, body, r, done.Count)
	if err != nil {
		return err
	}
	done.Subject = m.Subject
	receipt, err := publish(ctx, q.Bus, m)
	if err != nil {
		return err
	}
	if err := q.markReplayed(ctx, &l, done.Count); err != nil {
		return fmt.Errorf("published, but not marked as replayed: %w", err)
	}
	if receipt.Duplicate {
		return fmt.Errorf("%w, as message %d of %s", ErrReplayed, receipt.Seq, receipt.Stream)
	}
	return nil
}

// message makes the message of a replay.
func (q *DeadLetters) message(ctx context.Context, l *Letter, body []byte, r Replay, count int) (bus.Message, error) {
	to := l.Stage
	if r.To != "" {
		to = r.To
	}
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
	if l.Object != "" {
		if body, err = q.object(ctx, l.Object); err != nil {
			return m, err
		}
	}
	if body, err = reshape(l, body, to, r.Patch, m.Header); err != nil {
		return m, err
	}
	m.Body = body
	delete(m.Header, contract.HeaderObject)
	if len(body) > claimBytes {
		err = q.checkIn(ctx, &m, l, to, count)
	}
	return m, err
}

// accepts says what is wrong with an object that a stage is sent: only under its own prefix
// a stage takes one, and it has to be there.
func (q *DeadLetters) accepts(ctx context.Context, to contract.Stage, object string) error {
	if object == "" {
		return nil
	}
	bucket, prefix := contract.BucketProcessed, contract.ClaimPrefix
	if to == contract.Ingest {
		bucket, prefix = contract.BucketRaw, contract.InboxPrefix
	}
	ref, ok := parseRef(object)
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

// ParseRate reads a rate such as 10/s, 90/m or 5, which is per second.
func ParseRate(s string) (float64, error) {
	number, unit, _ := strings.Cut(s, "/")
	n, err := strconv.ParseFloat(number, 64)
	per, known := map[string]float64{"": 1, "s": 1, "m": 60, "h": 3600}[unit]
	if err != nil || !known || math.IsNaN(n) || n <= 0 || n > maxRate {
		return 0, fmt.Errorf("rate %q is not of the form 10/s, 90/m or 500/h", s)
	}
	return n / per, nil
}

// maxRate is the highest rate that can be asked for; no broker takes as many.
const maxRate = 1e6
