package bench

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/store"
)

// widths are the numbers of documents in flight that the driver tries.
func widths() []int { return []int{16, 64, 256} }

// ledgerTTL is how long the driver's last write to the ledger is kept, as the line's.
const ledgerTTL = 48 * time.Hour

// hops are the streams that a document without scraping is published to, one after the
// other.
func hops() []string {
	var all []string
	for _, s := range contract.Stages() {
		if s != contract.Scrape {
			all = append(all, string(s))
		}
	}
	return append(all, "completed")
}

// writes says which of the line's durable writes a driver does.
type writes struct{ store, ledger bool }

// driver measures documents a second where nothing is done but the line's durable writes:
// its publishes, its objects and its ledger, all of a document at one time, through the same
// writer and bus.
func (r *run) driver(ctx context.Context, after bool) (float64, error) {
	if r.width == 0 {
		best := 0.0
		for _, w := range widths() {
			n, err := r.drive(ctx, w, min(tryFor, r.BoundFor), writes{store: true, ledger: true})
			if err != nil {
				return 0, err
			}
			if n > best {
				best, r.width = n, w
			}
		}
		r.report.DriverWidth = r.width
	}
	whole, err := r.drive(ctx, r.width, r.BoundFor, writes{store: true, ledger: true})
	if err != nil {
		return 0, err
	}
	bare, err := r.drive(ctx, r.width, min(tryFor, r.BoundFor), writes{})
	r.report.Publishes.set(after, bare)
	return whole, err
}

// drive measures documents a second with a number of them in flight.
func (r *run) drive(ctx context.Context, width int, span time.Duration, w writes) (_ float64, err error) {
	s := r.scratch("driver")
	defer s.clean(ctx, &err)
	d := driver{run: r, scratch: s, writes: w}
	for _, h := range hops() {
		subject, err := s.stream(ctx, h)
		if err != nil {
			return 0, err
		}
		d.subjects = append(d.subjects, subject)
	}
	if d.entries, err = s.kv(ctx, r.Bus, "ledger"); err != nil {
		return 0, err
	}
	if d.corpus, err = r.corpus(); err != nil {
		return 0, err
	}
	n, took, err := burst{inFlight: width, span: span}.run(ctx, d.document)
	if err != nil || !w.store {
		return rate(n, took), err
	}
	there, err := s.listed(ctx)
	if err == nil && there != n*objectsPerDocument {
		err = fmt.Errorf("%d objects were reported and %d can be listed", n*objectsPerDocument, there)
	}
	return rate(n, took), err
}

// driver does the durable writes of documents.
type driver struct {
	*run
	*scratch
	writes

	corpus   *corpus
	subjects []string // in the order of the line
	entries  bus.KV
}

// document does the writes of one document and returns when all are durable.
func (d *driver) document(ctx context.Context, i int) error {
	one, err := d.corpus.document(i)
	if err != nil {
		return err
	}
	objects := d.views(one, true)
	record, err := recordOf(one, objects)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for n, subject := range d.subjects {
		body := one.body
		if n == len(d.subjects)-1 {
			body = record
		}
		g.Go(func() error {
			_, err := d.Bus.Publish(ctx, bus.Message{Subject: subject, ID: one.id, Body: body, Header: headersOf(one)})
			return err
		})
	}
	if d.writes.store {
		g.Go(func() error { return put(ctx, d.Writer, objects) })
	}
	if d.writes.ledger {
		g.Go(func() error { return d.enter(ctx, one) })
	}
	return g.Wait()
}

// enter writes the three states of a document.
func (d *driver) enter(ctx context.Context, one document) error {
	e := ledger.Entry{
		SHA256: doc.Sum(one.body), Owner: ledger.Owner{Stream: contract.StreamRaw, Seq: 1, Time: d.report.Began}, Name: one.id + ".json",
		Task: string(contract.JobExtraction), Provider: one.provider, CreatedAt: d.report.Began, At: d.report.Began,
	}
	var rev uint64
	for _, state := range []ledger.State{ledger.Open, ledger.Taken, ledger.Done} {
		e.State = state
		ttl := time.Duration(0)
		switch state {
		case ledger.Taken:
			e.Holder, e.Stage = ledger.Holder{WorkID: one.id, Kind: ledger.Completed}, contract.Archive
		case ledger.Done:
			ttl = ledgerTTL
		case ledger.Open:
		}
		value, err := codec.Marshal(e)
		if err != nil {
			return err
		}
		if state == ledger.Open {
			rev, err = d.entries.Create(ctx, one.id, value, 0)
		} else {
			rev, err = d.entries.Update(ctx, one.id, value, rev, ttl)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// headersOf returns headers as a message between stages has them.
func headersOf(d document) bus.Header {
	return bus.Header{
		contract.HeaderFileID: d.id, contract.HeaderTask: string(contract.JobExtraction), contract.HeaderProvider: d.provider,
		contract.HeaderLane: string(contract.Low), contract.HeaderAttempt: "1", contract.HeaderStage: string(contract.Ingest),
		contract.HeaderName: d.id + ".json", contract.HeaderSHA256: doc.Sum(d.body),
	}
}

// recordOf returns a terminal record that names objects.
func recordOf(d document, objects []store.Object) ([]byte, error) {
	r := doc.Record{Outcome: contract.OutcomeStored, Sources: []doc.SourceReport{}}
	r.Metadata.FileID, r.Metadata.TaskType, r.Metadata.Provider = d.id, string(contract.JobExtraction), d.provider
	for _, o := range objects {
		r.Objects = append(r.Objects, o.Ref)
	}
	return codec.Marshal(r)
}
