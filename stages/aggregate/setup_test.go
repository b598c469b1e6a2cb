package aggregate

import (
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/stagetest"
	"github.com/jobspy/millrace/shared/store"
)

var created = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// bundle is a stage with all that it talks to.
type bundle struct {
	t       *testing.T
	stage   stage.Handler
	bus     *bus.Memory
	objects *store.Memory
	ledger  *ledger.Ledger
	now     time.Time
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{t: t, now: created.Add(time.Second), objects: store.NewMemory(nil)}
	b.bus = bus.NewMemory(nil, []bus.KVConfig{{Name: contract.KVJoin, MarkerTTL: time.Minute}, {Name: contract.KVLedger, MarkerTTL: time.Minute}})
	t.Cleanup(func() { require.NoError(t, b.bus.Close()) })
	for _, name := range contract.Buckets() {
		_, err := b.objects.EnsureBucket(t.Context(), name)
		require.NoError(t, err)
	}
	var err error
	b.ledger, err = ledger.OpenLedger(t.Context(), b.bus, time.Hour, func() time.Time { return b.now })
	require.NoError(t, err)
	b.stage, err = New(t.Context(), stagetest.Config[Config](t, nil), stage.Deps{
		Ledger: b.ledger, Bus: b.bus, Store: b.objects, Clock: func() time.Time { return b.now }, Log: zerolog.Nop(),
	})
	require.NoError(t, err)
	return b
}

func document(fileID string, task contract.Task) *doc.Document {
	d := &doc.Document{Name: fileID + ".json", Attempt: 1, Lane: contract.High, Origin: doc.Origin{Time: created}}
	d.Metadata = doc.Metadata{
		FileID: fileID, CreatedAt: created, TaskType: string(task), Provider: "openai", Schema: string(task) + "/1",
		ProcessingStatus: contract.StatusRouted, Checksum: "sha256:00", FileSize: 2,
		Extra: codec.Value(`{"tenant":"t1","campaign":7}`),
	}
	return d
}

// search is a message of a search among these sources.
func search(sources ...string) *doc.Document {
	d := document("doc-1", contract.IntentAnalysis)
	d.Standard = &doc.Standard{Intent: &doc.Intent{IsJobRelated: true, JobTitle: "python developer"}}
	d.Routing = &doc.Routing{Sources: sources, Deadline: created.Add(20 * time.Second).UnixMilli()}
	return d
}

func answerOf(source string, status doc.SourceStatus, jobs []doc.JobPosting, sources ...string) *doc.Document {
	d := search(sources...)
	d.Source = source
	d.Answer = &doc.Answer{Source: source, Status: status, Jobs: jobs}
	if status == doc.SourceOK {
		d.Answer.Raw = &store.Ref{Bucket: contract.BucketJobs, Key: "raw/" + source + "/2026-09-01/doc-1.json"}
	}
	return d
}

func deadlineOf(sources ...string) *doc.Document {
	d := search(sources...)
	d.Timer = contract.TimerJoin
	return d
}

func job(source, id, title, company, place string) doc.JobPosting {
	j := doc.JobPosting{Type: "JobPosting", Source: source, Identifier: id, Title: title}
	if company != "" {
		j.HiringOrganization = &doc.Organization{Type: "Organization", Name: company}
	}
	if place != "" {
		j.JobLocation = &doc.Location{Type: "Place", Text: place}
	}
	return j
}

// handle gives a fresh copy of a message to the stage, as the runner would decode it, and
// does with the outputs what the runner does besides publishing.
func (b *bundle) handle(d *doc.Document) ([]stage.Output, error) {
	b.t.Helper()
	outs, err := b.made(d)
	b.settle(outs)
	return outs, err
}

// settle stores what belongs to outputs, and does what is to be done after that.
func (b *bundle) settle(outs []stage.Output) {
	b.t.Helper()
	for _, o := range outs {
		for _, err := range b.objects.Put(b.t.Context(), o.Objects...) {
			require.NoError(b.t, err)
		}
		if o.After != nil {
			require.NoError(b.t, o.After(b.t.Context()))
		}
	}
}

// made is handle without what the runner does.
func (b *bundle) made(d *doc.Document) ([]stage.Output, error) {
	b.t.Helper()
	body, err := d.Encode()
	require.NoError(b.t, err)
	in := *d
	in.Envelope, err = doc.Decode(body)
	require.NoError(b.t, err)
	return b.stage.Handle(b.t.Context(), &in)
}

// done handles a message that has to end its document, and returns its outcome and answer.
func (b *bundle) done(d *doc.Document) (doc.Outcome, string) {
	b.t.Helper()
	outs, err := b.handle(d)
	require.NoError(b.t, err)
	require.Len(b.t, outs, 2)
	require.Equal(b.t, contract.Archive, outs[0].To)
	require.Equal(b.t, d.Metadata.FileID, outs[0].Doc.WorkID(), "the record is the document's, not the source's")
	require.Equal(b.t, contract.StatusAggregated, outs[0].Doc.Metadata.ProcessingStatus)
	require.Equal(b.t, contract.ResultSubject(d.Metadata.FileID), outs[1].Subject)
	require.Equal(b.t, doc.ResultRef(created, d.Metadata.FileID), *outs[0].Doc.Outcome.Result)
	return *outs[0].Doc.Outcome, string(outs[1].Body)
}

// kept handles a message that must not end its document.
func (b *bundle) kept(d *doc.Document) {
	b.t.Helper()
	outs, err := b.handle(d)
	require.NoError(b.t, err)
	require.Empty(b.t, outs)
}

func (b *bundle) object(fileID string) string {
	b.t.Helper()
	o, err := b.objects.Get(b.t.Context(), doc.ResultRef(created, fileID))
	require.NoError(b.t, err)
	return string(o.Body)
}

func (b *bundle) result(fileID string) result {
	b.t.Helper()
	var r result
	require.NoError(b.t, codec.Unmarshal([]byte(b.object(fileID)), &r))
	return r
}

// complete marks a document as ended in the ledger.
func (b *bundle) complete(fileID string, kind ledger.Kind) {
	b.t.Helper()
	h := ledger.Holder{WorkID: fileID, Kind: kind}
	c, _, err := b.ledger.Take(b.t.Context(), fileID, h, ledger.Entry{CreatedAt: created})
	require.NoError(b.t, err)
	require.Equal(b.t, ledger.Won, c)
	require.NoError(b.t, b.ledger.Finish(b.t.Context(), fileID, h))
}
