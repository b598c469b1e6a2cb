package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

const (
	// publishers is how many publishes are under way at one time, to the broker's own stream
	// as to the line: more than one sync of the disk serves them all.
	publishers = 16
	// objectsPerDocument is what the line keeps of each document: four classes in three
	// views. The result, one more, is not counted on either side.
	objectsPerDocument = 12
	// tryFor is how long each shape of a load is tried before the best one is measured.
	tryFor = 2 * time.Second
	// restFor bounds the wait for the store to come to rest between two measurements.
	restFor = time.Minute
)

// broker measures durable publishes a second into one stream.
func (r *run) broker(ctx context.Context, _ bool) (_ float64, err error) {
	s := r.scratch("broker")
	defer s.clean(ctx, &err)
	subject, err := s.stream(ctx, "broker")
	if err != nil {
		return 0, err
	}
	documents, err := r.corpus()
	if err != nil {
		return 0, err
	}
	body, err := documents.document(0)
	if err != nil {
		return 0, err
	}
	n, took, err := burst{inFlight: publishers, span: r.BoundFor}.run(ctx, func(ctx context.Context, i int) error {
		_, err := r.Producer.Publish(ctx, bus.Message{
			Subject: subject, ID: strconv.Itoa(i), Body: body.body, Header: bus.Header{contract.HeaderFileID: body.id},
		})
		return err
	})
	return rate(n, took), err
}

// corpus returns the documents of the run.
func (r *run) corpus() (*corpus, error) { return newCorpus(r.id, r.Seed, r.Size, r.report.Began) }

// shape is a way to put objects.
type shape struct {
	objects  int // in one call
	inFlight int // calls at one time
}

func (s shape) String() string {
	return fmt.Sprintf("%d objects in a call, %d calls at a time", s.objects, s.inFlight)
}

// shapes are the ways that may be the cheapest for a store.
func (r *run) shapes() []shape {
	batch := store.DefaultBatchObjects
	if r.Embedded {
		return []shape{{objectsPerDocument, 64}, {batch, 2}, {batch, 8}}
	}
	return []shape{{batch, 2}, {batch, 4}}
}

// store measures objects a second by the cheapest means that the store has. What counts are
// the objects that can be listed afterwards.
func (r *run) store(ctx context.Context, _ bool) (float64, error) {
	if r.shape == (shape{}) {
		best := 0.0
		for _, s := range r.shapes() {
			n, err := r.puts(ctx, s, min(tryFor, r.BoundFor))
			if err != nil {
				return 0, err
			}
			if n > best {
				best, r.shape = n, s
			}
		}
		if best == 0 {
			return 0, errors.New("the store reports success and keeps nothing")
		}
		r.report.StoreShape = r.shape.String()
	}
	return r.puts(ctx, r.shape, r.BoundFor)
}

// puts measures objects a second in one shape.
func (r *run) puts(ctx context.Context, how shape, span time.Duration) (_ float64, err error) {
	s := r.scratch("store")
	defer s.clean(ctx, &err)
	documents, err := r.corpus()
	if err != nil {
		return 0, err
	}
	reported, took, err := burst{inFlight: how.inFlight, span: span}.run(ctx, func(ctx context.Context, i int) error {
		var objects []store.Object
		for n := range how.objects / objectsPerDocument {
			d, err := documents.document(i*(how.objects/objectsPerDocument) + n)
			if err != nil {
				return err
			}
			objects = append(objects, s.views(d, false)...)
		}
		return put(ctx, r.Objects, objects)
	})
	if err != nil {
		return 0, err
	}
	there, err := s.listed(ctx)
	if err == nil && there != reported*how.objects {
		r.report.note("the store reported %d objects and lists %d: only the latter count", reported*how.objects, there)
	}
	return rate(there, took), err
}

// put stores objects and returns the first error: the others say the same.
func put(ctx context.Context, s store.Store, objects []store.Object) error {
	for _, err := range s.Put(ctx, objects...) {
		if err != nil {
			return err
		}
	}
	return nil
}

// views returns what the line keeps of a document, under keys of the measurement: four
// bodies in three views each. Split says that raw has a bucket to itself, as in the line;
// else one bucket takes all, which is cheaper for stores that take batches.
func (s *scratch) views(d document, split bool) []store.Object {
	out := make([]store.Object, 0, objectsPerDocument)
	for n, c := range contract.Classes() {
		o := store.Object{Body: append([]byte(nil), d.body...)}
		o.Body[len(o.Body)-1] = byte(' ' + n) // so that no two classes share a file
		if c == contract.ClassRaw {
			o.Meta = map[string]string{
				contract.MetaFileID: d.id, contract.MetaTask: string(contract.JobExtraction), contract.MetaProvider: d.provider,
				contract.MetaName: d.id + ".json", contract.MetaLane: string(contract.Low), contract.MetaSHA256: doc.Sum(d.body),
				contract.MetaCreatedAt: "2025-01-27T14:30:52Z",
			}
		}
		for _, v := range contract.Views() {
			o.Bucket = contract.BucketProcessed
			if split {
				o.Bucket, _ = contract.ClassBucket(c)
			}
			o.Key = s.prefix + string(c) + "/" + string(v) + "/" + d.provider + "/" + d.id + ".json"
			out = append(out, o)
		}
	}
	return out
}
