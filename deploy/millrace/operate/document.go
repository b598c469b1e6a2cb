package operate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/letters"
	"github.com/jobspy/millrace/shared/store"
)

// ErrUnknown says that no trace of a document was found.
var ErrUnknown = errors.New("no such document")

// State is where a document stands, in the words of operators.
type State string

// The states of a document.
const (
	Pending    State = "pending"    // accepted, not taken up yet
	Processing State = "processing" // on its way
	Completed  State = "completed"
	Failed     State = "failed"
)

// Document is what is known of one document.
type Document struct {
	FileID    string           `json:"file_id"`
	State     State            `json:"state"`
	Stage     contract.Stage   `json:"stage,omitzero"`   // where it is, or ended
	Reason    contract.Reason  `json:"reason,omitzero"`  // of a failed one
	Error     string           `json:"error,omitzero"`   // of a failed one
	Outcome   contract.Outcome `json:"outcome,omitzero"` // of a completed one
	Name      string           `json:"name,omitzero"`
	Task      string           `json:"task,omitzero"`
	Provider  string           `json:"provider,omitzero"`
	CreatedAt time.Time        `json:"created_at,omitzero"`
	SHA256    string           `json:"sha256,omitzero"` // of the raw bytes
	Replays   int              `json:"replays"`
	Attempt   int              `json:"attempt,omitzero"` // the coming one, while a retry waits
	At        time.Time        `json:"at,omitzero"`      // when the state was reached
	// DeadLetter is the sequence of the dead letter in LLM_DLQ.
	DeadLetter uint64      `json:"dead_letter,omitzero"`
	Objects    []store.Ref `json:"objects,omitzero"`
	// Gone are those of Objects and Result that do not exist any more.
	Gone     []store.Ref `json:"gone,omitzero"`
	Archived *Archived   `json:"archived,omitzero"` // of a completed one that is in the archive
	// StoreError says why Gone and Archived are not known.
	StoreError string             `json:"store_error,omitzero"`
	Result     *store.Ref         `json:"result,omitzero"`
	Sources    []doc.SourceReport `json:"sources,omitzero"`
	Timeline   []doc.Step         `json:"timeline,omitzero"`
}

const (
	// maxScan bounds how many messages one search reads.
	maxScan = 200_000
	// scanSlack is how far the clocks of stages and of the broker may be apart for a search
	// by time to succeed at once.
	scanSlack = time.Minute
)

// Sources is what FindDocument looks into.
type Sources struct {
	Bus    bus.Bus
	Ledger *ledger.Ledger
	// Store opens the object store, in which the archive is; it is called when it is needed. Nil
	// leaves it out.
	Store func(ctx context.Context) (store.Store, error)
}

// FindDocument looks a document up. Error: ErrUnknown.
func FindDocument(ctx context.Context, s Sources, fileID string) (Document, error) {
	f := finder{bus: s.Bus, open: s.Store, d: Document{FileID: fileID}}
	e, err := s.Ledger.Read(ctx, fileID)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		err = f.unledgered(ctx)
	case err == nil:
		err = f.ledgered(ctx, e)
	}
	if err == nil && f.d.State == Completed {
		f.stored(ctx)
	}
	return f.d, err
}

// finder gathers what is known of one document.
type finder struct {
	bus  bus.Bus
	open func(ctx context.Context) (store.Store, error)
	d    Document

	recorded time.Time // of the terminal record; zero where it was not found
}

// ledgered takes up what the ledger says and looks for the rest.
func (f *finder) ledgered(ctx context.Context, e ledger.Entry) error {
	d := &f.d
	d.Name, d.Task, d.Provider, d.CreatedAt = e.Name, e.Task, e.Provider, e.CreatedAt
	d.SHA256, d.Replays, d.At = e.SHA256, e.Replay, e.At
	switch {
	case e.State == ledger.Done && e.Holder.Kind == ledger.Dead:
		d.State, d.Stage, d.Reason = Failed, e.Stage, e.Reason
		_, err := f.dead(ctx, contract.DLQSubject(e.Stage, e.Reason), e.At.Add(-scanSlack))
		return err
	case e.State == ledger.Done:
		d.State, d.Stage = Completed, e.Stage
		filter := contract.RootCompleted + ".>"
		found, err := f.record(ctx, filter, e.At.Add(-scanSlack))
		if err == nil && !found && !e.Owner.Time.IsZero() {
			// The clocks are further apart, or the end was marked long after it was published.
			_, err = f.record(ctx, filter, e.Owner.Time.Add(-scanSlack))
		}
		return err
	default:
		d.State, d.Stage = Processing, e.Stage
		return f.onItsWay(ctx, e.Owner.Time.Add(-scanSlack))
	}
}

// unledgered looks for a document that ingest has not taken up, or that the ledger has
// forgotten.
func (f *finder) unledgered(ctx context.Context) error {
	for _, look := range []func(context.Context) (bool, error){
		f.queued,
		func(ctx context.Context) (bool, error) { return f.retried(ctx, contract.Ingest) },
		func(ctx context.Context) (bool, error) {
			return f.record(ctx, contract.RootCompleted+".>", time.Time{})
		},
		f.longAgo,
	} {
		found, err := look(ctx)
		if err != nil || found {
			return err
		}
	}
	if f.d.StoreError != "" {
		return fmt.Errorf("%s: %w, and the archive could not be asked: %s", f.d.FileID, ErrUnknown, f.d.StoreError)
	}
	return fmt.Errorf("%s: %w", f.d.FileID, ErrUnknown)
}

// last returns the newest message of a stream that matches, from a time on, or among the
// newest where the time is zero. At most maxScan messages are read.
func (f *finder) last(ctx context.Context, stream, filter string, since time.Time, match func(*bus.Stored) bool) (*bus.Stored, error) {
	info, err := f.bus.Info(ctx, stream)
	if err != nil {
		return nil, err
	}
	from := uint64(1)
	if !since.IsZero() {
		if from, err = f.bus.SeqAt(ctx, stream, since); err != nil {
			return nil, err
		}
	} else if info.LastSeq > maxScan {
		from = info.LastSeq - maxScan
	}
	var found *bus.Stored
	n := 0
	for m, err := range f.bus.Scan(ctx, stream, filter, from) {
		if err != nil {
			return nil, err
		}
		if match(m) {
			found = m
		}
		if n++; n >= maxScan {
			break
		}
	}
	return found, nil
}

func (f *finder) ours(m *bus.Stored) bool { return m.Header[contract.HeaderFileID] == f.d.FileID }

// record looks for the terminal record.
func (f *finder) record(ctx context.Context, filter string, since time.Time) (bool, error) {
	m, err := f.last(ctx, contract.StreamCompleted, filter, since, f.ours)
	if err != nil || m == nil {
		return false, err
	}
	var r doc.Record
	if err := codec.Unmarshal(m.Body, &r); err != nil {
		return false, fmt.Errorf("read the terminal record %d of %s: %w", m.Seq, m.Stream, err)
	}
	f.completed(&r, m)
	return true, nil
}

// dead looks for the dead letter.
func (f *finder) dead(ctx context.Context, filter string, since time.Time) (bool, error) {
	m, err := f.last(ctx, contract.StreamDLQ, filter, since, f.ours)
	if err != nil || m == nil {
		return false, err
	}
	letter := letters.Read(m)
	d := &f.d
	d.State, d.Stage, d.Reason, d.Error, d.DeadLetter = Failed, letter.Stage, letter.Reason, letter.Error, letter.Seq
	d.Timeline = letter.Timeline
	d.fill(&doc.Metadata{}, m)
	d.Objects = letter.Objects()
	return true, nil
}

// fill completes what the ledger did not say from a record or a message.
func (d *Document) fill(meta *doc.Metadata, m *bus.Stored) {
	first := func(to *string, texts ...string) {
		for _, s := range texts {
			if *to == "" {
				*to = s
			}
		}
	}
	first(&d.Name, m.Header[contract.HeaderName])
	first(&d.Task, meta.TaskType, m.Header[contract.HeaderTask])
	first(&d.Provider, meta.Provider, m.Header[contract.HeaderProvider])
	first(&d.SHA256, strings.TrimPrefix(meta.Checksum, "sha256:"), m.Header[contract.HeaderSHA256])
	if d.CreatedAt.IsZero() {
		d.CreatedAt = meta.CreatedAt
	}
	if d.At.IsZero() {
		d.At = m.Time.UTC()
	}
	d.Replays = max(d.Replays, doc.FromMessage(m).Replay)
}

// queued looks for a document that waits for ingest.
func (f *finder) queued(ctx context.Context) (bool, error) {
	id := []byte(f.d.FileID)
	m, err := f.last(ctx, contract.StreamRaw, "", time.Time{}, func(m *bus.Stored) bool {
		if h := m.Header[contract.HeaderFileID]; h != "" {
			return h == f.d.FileID
		}
		return bytes.Contains(m.Body, id) && readHead(m.Body).fileID == f.d.FileID
	})
	if err != nil || m == nil {
		return false, err
	}
	f.d.State, f.d.Stage = Pending, contract.Ingest
	f.d.fill(&doc.Metadata{}, m)
	return true, nil
}

// retried looks for a retry of a stage that waits for its time.
func (f *finder) retried(ctx context.Context, s contract.Stage) (bool, error) {
	m, err := f.bus.Last(ctx, contract.StreamRetry, contract.RetrySubject(s, f.d.FileID, f.d.Replays))
	if errors.Is(err, bus.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	in := doc.FromMessage(m)
	f.d.State, f.d.Stage, f.d.Attempt = Processing, s, in.Attempt
	f.d.fill(&doc.Metadata{}, m)
	if len(in.Timeline) > 0 {
		f.d.Timeline = in.Timeline
	}
	return true, nil
}

// onItsWay finds the stage that has a document which has not ended: the last that somebody
// published it to, unless a retry waits.
func (f *finder) onItsWay(ctx context.Context, since time.Time) error {
	m, err := f.last(ctx, contract.StreamTimeline, "", since, f.ours)
	if err != nil && !errors.Is(err, bus.ErrNoStream) {
		return err
	}
	if f.d.Stage == "" {
		f.d.Stage = contract.Ingest // it is in the ledger, so ingest has it at least
	}
	if m != nil {
		f.d.Timeline = doc.FromMessage(m).Timeline
		if s, ok := headingFor(m.Subject); ok {
			f.d.Stage = s
		}
	}
	for _, s := range contract.Stages() {
		if found, err := f.retried(ctx, s); err != nil || found {
			return err
		}
	}
	return nil
}

// headingFor reads from a subject of the timeline which stage the message was published to.
func headingFor(subject string) (contract.Stage, bool) {
	rest, _ := strings.CutPrefix(subject, contract.RootTimeline+".")
	first, rest, _ := strings.Cut(rest, ".")
	if first == "retry" {
		first, _, _ = strings.Cut(rest, ".")
	}
	for _, s := range contract.Stages() {
		if first == string(s) {
			return s, true
		}
	}
	return "", false
}
