package sim

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/ledger"
)

// end is a terminal record or a dead letter.
type end struct {
	*bus.Stored

	replay int
	record *doc.Record // nil of a dead letter
}

func (e end) String() string {
	if e.record != nil {
		return fmt.Sprintf("record %d (%s, replay %d)", e.Seq, e.record.Outcome, e.replay)
	}
	return fmt.Sprintf("dead letter %d (%s, replay %d: %s)", e.Seq, e.Subject, e.replay, e.Header[contract.HeaderError])
}

// check looks at what is left of a run that has come to rest.
func (w *world) check(ctx context.Context) {
	ends := w.ends(ctx)
	for _, i := range []struct {
		name  string
		check func(ctx context.Context, ends map[string][]end) error
	}{
		{"nothing stays in a queue", w.nothingStays},
		{"one terminal state per accepted document", w.oneEnd},
		{"a replayed dead letter completes or returns with a higher count", w.replaysEnd},
		{"an outage makes no dead letter", w.rightEnd},
		{"the ledger knows every end", w.ledgerKnows},
		{"the raw object is byte-equal to what was sent", w.rawIsEqual},
		{"every object that a record names is there", w.objectsAreThere},
		{"no duplicate in an aggregate", w.noDuplicates},
		{"what is merged stands in its target", w.mergedStands},
		{"no record is archived twice", w.archivedOnce},
	} {
		if err := i.check(ctx, ends); err != nil {
			w.fail("%s: %v", i.name, err)
		}
	}
}

// ends reads all ends, by file_id.
func (w *world) ends(ctx context.Context) map[string][]end {
	all := map[string][]end{}
	for _, stream := range []string{contract.StreamCompleted, contract.StreamDLQ} {
		for m, err := range w.bus.Scan(ctx, stream, "", 0) {
			w.must(err)
			e := end{Stored: m, replay: doc.FromMessage(m).Replay}
			if stream == contract.StreamCompleted {
				e.record = &doc.Record{}
				w.must(codec.Unmarshal(m.Body, e.record))
			}
			id := m.Header[contract.HeaderFileID]
			all[id] = append(all[id], e)
		}
	}
	return all
}

func (w *world) nothingStays(ctx context.Context, _ map[string][]end) error {
	if left := w.queues(ctx); left != "" {
		return fmt.Errorf("%s", left)
	}
	return nil
}

// expected is what there has to be: how many ends each id has at each replay count, at most.
func (w *world) expected(ctx context.Context) map[string]accepted {
	want := map[string]accepted{}
	for _, a := range w.accepted {
		own := doc.NewID(doc.Origin{Stream: a.stored.Stream, Seq: a.stored.Seq, Time: a.stored.Time}, doc.Sum(a.stored.Body))
		id := a.document.fileID
		if a.makes {
			want[own] = a
			continue
		}
		if e, err := w.entry(ctx, id); err == nil && e.SHA256 != "" && e.SHA256 != doc.Sum(a.stored.Body) {
			a.want = mustFail // it lost its id to other bytes
			want[own] = a
			continue
		}
		if _, known := want[id]; !known {
			want[id] = a
		}
	}
	return want
}

func (w *world) entry(ctx context.Context, id string) (ledger.Entry, error) {
	book, err := ledger.OpenLedger(ctx, w.bus, 0, nil)
	if err != nil {
		return ledger.Entry{}, err
	}
	return book.Read(ctx, id)
}

func (w *world) oneEnd(ctx context.Context, ends map[string][]end) error {
	want := w.expected(ctx)
	for id, a := range want {
		counts := map[int]int{}
		for _, e := range ends[id] {
			counts[e.replay]++
		}
		for replay := range w.replayed[id] + 1 {
			if counts[replay] != 1 {
				return fmt.Errorf("%s (%s, %s) was replayed %d times and has %v", id, docName(a.index), a.what, w.replayed[id], ends[id])
			}
			delete(counts, replay)
		}
		if len(counts) > 0 {
			return fmt.Errorf("%s (%s, %s) has ends that nobody asked for: %v", id, docName(a.index), a.what, ends[id])
		}
	}
	for id, e := range ends {
		if _, known := want[id]; !known {
			return fmt.Errorf("%s was never published and has %v", id, e)
		}
	}
	return nil
}

func (w *world) replaysEnd(_ context.Context, ends map[string][]end) error {
	for id, count := range w.replayed {
		if !slices.ContainsFunc(ends[id], func(e end) bool { return e.replay == count }) {
			return fmt.Errorf("%s was replayed %d times and has %v", id, count, ends[id])
		}
	}
	return nil
}

// last returns the end that counts.
func last(ends []end) end {
	return slices.MaxFunc(ends, func(a, b end) int { return a.replay - b.replay })
}

func (w *world) rightEnd(ctx context.Context, ends map[string][]end) error {
	for id, a := range w.expected(ctx) {
		if len(ends[id]) == 0 {
			continue // oneEnd says so
		}
		want := a.want
		if w.poison != anyDoc && id == fileID(w.poison) {
			want = mustFail
		}
		if want == mustFail && w.replayed[id] > 0 && (a.makes || id != a.document.fileID) {
			want = mayEither // what was wrong with it was its id, and now it has one
		}
		e := last(ends[id])
		if want == mustComplete && e.record == nil || want == mustFail && e.record != nil {
			return fmt.Errorf("%s (%s, %s) %s, but it has %v", id, docName(a.index), a.what, want, e)
		}
	}
	return nil
}

func (w *world) ledgerKnows(ctx context.Context, ends map[string][]end) error {
	for id, all := range ends {
		e, err := w.entry(ctx, id)
		if err != nil {
			return err
		}
		kind := ledger.Dead
		if last(all).record != nil {
			kind = ledger.Completed
		}
		if e.State != ledger.Done || e.Holder.Kind != kind || e.Holder.Replay != last(all).replay {
			return fmt.Errorf("of %s it says %s, %+v, but there is %v", id, e.State, e.Holder, all)
		}
	}
	return nil
}

// keepsRaw looks whether the bytes of a raw message are stored when it is settled. Where an
// attempt was cut off before it could store them they wait for the next one as a retry, and
// those of a duplicate may still be in the message that it is one of.
func (w *world) keepsRaw(m *bus.Stored) {
	if m.Header[contract.HeaderReplayOf] != "" || w.hasRaw(m.Body) || w.waits(m) {
		return
	}
	w.fail("the raw object is there before the message is acknowledged: that of message %d, %s, is not",
		m.Seq, about(m.Subject, m.Header))
}

// waits reports whether another message to ingest has the bytes of m.
func (w *world) waits(m *bus.Stored) bool {
	for _, stream := range []string{contract.StreamRaw, contract.StreamRetry} {
		for s, err := range w.bus.Scan(context.Background(), stream, "", 0) {
			w.must(err)
			if bytes.Equal(s.Body, m.Body) && s.Header[contract.HeaderFileID] == m.Header[contract.HeaderFileID] &&
				(s.Stream != m.Stream || s.Seq != m.Seq) {
				return true
			}
		}
	}
	return false
}

// hasRaw reports whether there is a raw object with just these bytes.
func (w *world) hasRaw(body []byte) bool {
	ctx := context.Background()
	for info, err := range w.store.List(ctx, contract.BucketRaw, "by_date/") {
		w.must(err)
		if info.Size != int64(len(body)) {
			continue
		}
		o, err := w.store.Get(ctx, info.Ref)
		w.must(err)
		if bytes.Equal(o.Body, body) {
			return true
		}
	}
	return false
}

func (w *world) rawIsEqual(ctx context.Context, ends map[string][]end) error {
	for id, a := range w.expected(ctx) {
		if !w.hasRaw(a.stored.Body) {
			return fmt.Errorf("%s (%s, %s) has none", id, docName(a.index), a.what)
		}
		for _, e := range ends[id] {
			if e.record == nil {
				continue
			}
			for _, ref := range e.record.Objects {
				if ref.Bucket != contract.BucketRaw {
					continue
				}
				o, err := w.store.Get(ctx, ref)
				if err != nil {
					return err
				}
				if !bytes.Equal(o.Body, a.stored.Body) {
					return fmt.Errorf("%s of %s has %d bytes of others", ref, id, len(o.Body))
				}
			}
		}
	}
	return nil
}

// published looks, before a terminal record is published, whether what it names is there.
func (w *world) published(ctx context.Context, m bus.Message) {
	if !bus.Matches(contract.RootCompleted+".>", m.Subject) {
		return
	}
	var r doc.Record
	w.must(codec.Unmarshal(m.Body, &r))
	if err := w.there(ctx, &r); err != nil {
		w.fail("every object that a record names is there before it is published: %v", err)
	}
}

func (w *world) there(ctx context.Context, r *doc.Record) error {
	refs := slices.Clone(r.Objects)
	if r.Result != nil {
		refs = append(refs, *r.Result)
	}
	for _, ref := range refs {
		if _, err := w.store.Stat(ctx, ref); err != nil {
			return fmt.Errorf("of %s: %w", r.Metadata.FileID, err)
		}
	}
	return nil
}

func (w *world) objectsAreThere(ctx context.Context, ends map[string][]end) error {
	for _, all := range ends {
		for _, e := range all {
			if e.record == nil {
				continue
			}
			if err := w.there(ctx, e.record); err != nil {
				return err
			}
		}
	}
	return nil
}
