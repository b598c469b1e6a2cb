package operate

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/store"
)

// completion is what is known of a document that has completed.
type completion struct {
	stored *bus.Stored // its record, where the broker has it
	record []byte      // else its record as an archive holds it
	result *store.Ref  // else its result, from which a record can be made
}

// completed finds out whether a document has completed. It returns nil where it has not, and
// an error where what has completed under its file_id are other bytes.
func (r *refilling) completed(ctx context.Context, k Kept, o *doc.Original) (*completion, error) {
	stored, err := r.record(ctx, o)
	if err != nil || stored != nil {
		return &completion{stored: stored}, err
	}
	if kept, ok := k.(Recorded); ok {
		_, err := readRecord(kept.Record(), o)
		return &completion{record: kept.Record()}, err
	}
	if r.Archive != nil {
		record, found, err := r.Archive.Completed(ctx, o.FileID)
		if err == nil && found {
			_, err = readRecord(record, o)
		}
		if err != nil || found {
			return &completion{record: record}, err
		}
	}
	ref := doc.ResultRef(o.CreatedAt, o.FileID)
	_, err = r.Store.Stat(ctx, ref)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return &completion{result: &ref}, err
}

// record returns the terminal record of a document that lies in the broker, nil where none
// does.
func (r *refilling) record(ctx context.Context, o *doc.Original) (*bus.Stored, error) {
	records, err := r.records.get(func() (*index, error) { return indexStream(ctx, r.Bus, contract.StreamCompleted) })
	if err != nil {
		return nil, err
	}
	var other error
	for _, seq := range records.find(o.FileID) {
		m, err := r.Bus.Get(ctx, contract.StreamCompleted, seq)
		switch {
		case errors.Is(err, bus.ErrNotFound):
			continue // it has left since
		case err != nil:
			return nil, err
		case m.Header[contract.HeaderFileID] != o.FileID:
			continue
		}
		_, err = readRecord(m.Body, o)
		if err == nil {
			return m, nil
		}
		other = fmt.Errorf("message %d of %s: %w", seq, m.Stream, err)
	}
	return nil, other
}

// readRecord reads a terminal record and makes sure that it is that of o.
func readRecord(body []byte, o *doc.Original) (*doc.Record, error) {
	var rec doc.Record
	if err := codec.Unmarshal(body, &rec); err != nil {
		return nil, fmt.Errorf("read the terminal record of %s: %w", o.FileID, err)
	}
	return &rec, sameDocument(&rec.Metadata, o)
}

// sameDocument says what differs where m is not the metadata of o.
func sameDocument(m *doc.Metadata, o *doc.Original) error {
	if m.FileID != o.FileID || m.Checksum != "sha256:"+o.SHA256 {
		return fmt.Errorf("what completed as file_id %s are other bytes, of file_id %.80q and %.80q", o.FileID, m.FileID, m.Checksum)
	}
	return nil
}

// restore publishes the terminal record of a completed document where the broker has none,
// and then enters it into the ledger where that does not know it.
func (r *refilling) restore(ctx context.Context, o *doc.Original, c *completion, out *Refilled) error {
	m := c.stored
	if m == nil {
		rec, how, err := r.read(ctx, o, c)
		if err != nil {
			return err
		}
		if out.Record = true; r.DryRun {
			return nil
		}
		message, err := r.recordMessage(ctx, o, rec, c.record)
		if err != nil {
			return err
		}
		message.Header[contract.HeaderRestored] = how
		receipt, err := bus.Insist(ctx, r.Bus, message)
		if err != nil {
			return err
		}
		out.Record = !receipt.Duplicate
		if m, err = r.Bus.Get(ctx, receipt.Stream, receipt.Seq); err != nil {
			return err
		}
	}
	if r.DryRun {
		return nil
	}
	replay := doc.FromMessage(m).Replay
	var err error
	out.Ledger, err = r.Ledger.Restore(ctx, o.FileID, ledger.Entry{
		SHA256: o.SHA256, Name: o.Name, Task: o.Task, Provider: o.Provider, CreatedAt: o.CreatedAt,
		Replay: replay, State: ledger.Done, Stage: contract.Archive, At: m.Time.UTC(),
		Holder: ledger.Holder{WorkID: o.FileID, Replay: replay, Kind: ledger.Completed},
	})
	return err
}

// read returns the terminal record of a document as an archive holds it, else what its
// result says for one. Nothing is made up: what only the lost record said, its timeline first
// of all, is left out.
func (r *refilling) read(ctx context.Context, o *doc.Original, c *completion) (*doc.Record, string, error) {
	if c.result == nil {
		rec, err := readRecord(c.record, o)
		return rec, contract.RestoredArchive, err
	}
	object, err := r.Store.Get(ctx, *c.result)
	if err != nil {
		return nil, "", err
	}
	var result struct {
		Metadata doc.Metadata       `json:"metadata"`
		Outcome  contract.Outcome   `json:"outcome"`
		Sources  []doc.SourceReport `json:"sources"`
	}
	if err := codec.Unmarshal(object.Body, &result); err != nil {
		return nil, "", fmt.Errorf("read the result %s: %w", c.result, err)
	}
	if err := sameDocument(&result.Metadata, o); err != nil {
		return nil, "", err
	}
	rec := &doc.Record{
		Metadata: result.Metadata, Outcome: result.Outcome, Result: c.result, Sources: result.Sources, Timeline: []doc.Step{},
	}
	rec.Metadata.ProcessingStatus = contract.StatusCompleted
	if rec.Sources == nil {
		rec.Sources = []doc.SourceReport{}
	}
	return rec, contract.RestoredObjects, nil
}

// recordMessage makes the message of a terminal record that the broker has lost; body is the
// record as it was, where that is known. Its id is that of the archive stage, so that one that
// comes after all is dropped as a duplicate.
func (r *refilling) recordMessage(ctx context.Context, o *doc.Original, rec *doc.Record, body []byte) (bus.Message, error) {
	if body == nil {
		var err error
		if rec.Objects, err = r.existing(ctx, o, rec); err != nil {
			return bus.Message{}, err
		}
		if body, err = codec.Marshal(rec); err != nil {
			return bus.Message{}, fmt.Errorf("write the terminal record of %s: %w", o.FileID, err)
		}
	}
	d := doc.Document{Envelope: doc.Envelope{Metadata: rec.Metadata}, Lane: o.Lane, Name: o.Name, Timeline: rec.Timeline}
	return bus.Message{
		Subject: contract.CompletedSubject(rec.Metadata.TaskType, rec.Metadata.Provider),
		ID:      fmt.Sprintf("%s:%s:0:r0", o.FileID, contract.Archive),
		Header:  d.Headers(contract.Archive), Body: body,
	}, nil
}

// existing lists the objects of a completed document, in the order in which the archive stage
// lists them: those of each class and view that are there, and the result.
func (r *refilling) existing(ctx context.Context, o *doc.Original, rec *doc.Record) ([]store.Ref, error) {
	var refs []store.Ref
	for _, c := range contract.Classes() {
		refs = append(refs, doc.Views(c, contract.Views(), o.CreatedAt, rec.Metadata.Provider, rec.Metadata.TaskType, o.Name)...)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(refillStats)
	there := make([]bool, len(refs))
	for i, ref := range refs {
		g.Go(func() error {
			_, err := r.Store.Stat(ctx, ref)
			there[i] = err == nil
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	found := []store.Ref{}
	for i, ref := range refs {
		if there[i] {
			found = append(found, ref)
		}
	}
	return append(found, *rec.Result), nil
}
