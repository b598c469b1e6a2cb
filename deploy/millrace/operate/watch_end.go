package operate

import (
	"context"
	"errors"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/letters"
)

// badEvery is how often the dead letter of a document without a valid file_id is looked for.
const badEvery = 2 * time.Second

// end asks the ledger whether a document has ended; nil means not yet.
func (w *Watcher) end(ctx context.Context, f *watchedFile) (*Event, error) {
	e, err := w.Ledger.Read(ctx, f.id)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case e.SHA256 != "" && e.SHA256 != f.sha && e.Replay == 0:
		// The file_id belongs to other bytes, and that never changes.
		return &Event{State: Failed, Stage: contract.Ingest, Reason: contract.ReasonConflict}, nil
	case e.State != ledger.Done:
		return nil, nil
	case e.Holder.Kind == ledger.Dead:
		return &Event{State: Failed, Stage: e.Stage, Reason: e.Reason}, nil
	default:
		return &Event{State: Completed}, nil
	}
}

// badEnd looks for the dead letter of a document whose file_id is not valid: it has an id
// that only ingest knows, but the same bytes.
func (w *Watcher) badEnd(ctx context.Context, f *watchedFile) (*Event, error) {
	if w.Now().Sub(f.asked) < badEvery {
		return nil, nil
	}
	f.asked = w.Now()
	from, err := w.Bus.SeqAt(ctx, contract.StreamDLQ, f.since.Add(-scanSlack))
	if err != nil {
		return nil, err
	}
	filter := contract.DLQSubject(contract.Ingest, "*")
	for m, err := range w.Bus.Scan(ctx, contract.StreamDLQ, filter, from) {
		if err != nil {
			return nil, err
		}
		if m.Header[contract.HeaderSHA256] == f.sha {
			l := letters.Read(m)
			return &Event{State: Failed, Stage: l.Stage, Reason: l.Reason, FileID: l.FileID}, nil
		}
	}
	return nil, nil
}

// recover settles files whose documents ended so long ago that the ledger has forgotten
// them: their ends are looked for among the newest records and dead letters.
func (w *Watcher) recover(ctx context.Context) error {
	lost := map[string]*watchedFile{}
	for _, f := range w.processing {
		if f.bad {
			continue
		}
		_, err := w.Ledger.Read(ctx, f.id)
		if errors.Is(err, bus.ErrNotFound) {
			lost[f.id] = f
		} else if err != nil {
			return err
		}
	}
	for _, stream := range []string{contract.StreamDLQ, contract.StreamCompleted} {
		if len(lost) == 0 {
			return nil
		}
		info, err := w.Bus.Info(ctx, stream)
		if err != nil {
			return err
		}
		from := uint64(1)
		if info.LastSeq > maxScan {
			from = info.LastSeq - maxScan
		}
		for m, err := range w.Bus.Scan(ctx, stream, "", from) {
			if err != nil {
				return err
			}
			f := lost[m.Header[contract.HeaderFileID]]
			if f == nil {
				continue
			}
			delete(lost, f.id)
			if stream == contract.StreamCompleted {
				w.move(f, Processing, Completed, Event{})
				continue
			}
			l := letters.Read(m)
			w.move(f, Processing, Failed, Event{Stage: l.Stage, Reason: l.Reason})
		}
	}
	return nil
}
