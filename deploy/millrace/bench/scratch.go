package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/topology"
)

const (
	// streamPrefix begins the names of all streams and buckets that a run makes.
	streamPrefix = "MILLRACE_BENCH_"
	// subjectPrefix begins their subjects.
	subjectPrefix = "millrace.bench."
	// objectPrefix begins the keys of all objects that a run makes, in the buckets of raw and
	// of processed documents.
	objectPrefix = "_bench/"
	// cleanTimeout bounds the clean-up, which also runs where the run was cancelled.
	cleanTimeout = 5 * time.Minute
	// deleteParallel is how many objects are removed at one time.
	deleteParallel = 32
	// memory is how long the streams of a run remember message ids, as the line's do.
	memory = topology.DefaultDuplicates
)

// scratch is what one measurement makes in the broker and in the store.
type scratch struct {
	js      jetstream.JetStream
	objects store.Store
	run     string
	prefix  string // of the keys

	streams []string // as the broker calls them
}

// scratch begins a measurement. Its clean must be called.
func (r *run) scratch(name string) *scratch {
	return &scratch{
		js: r.Bus.JetStream(), objects: r.Objects, run: strings.ToUpper(r.id), prefix: objectPrefix + r.id + "/" + name + "/",
	}
}

// stream makes an empty stream and returns its one subject. Like the queues of the line it
// keeps each message on disk, remembers ids and refuses what does not fit.
func (s *scratch) stream(ctx context.Context, name string) (string, error) {
	c := bus.StreamConfig{
		Name: streamPrefix + s.run + "_" + strings.ToUpper(name), Description: "a measurement, not of use to anybody else",
		Subjects: []string{subjectPrefix + s.run + "." + name}, WorkQueue: true, DiscardNew: true, Duplicates: memory,
	}
	s.streams = append(s.streams, c.Name)
	_, err := topology.Apply(ctx, s.js, topology.Topology{Streams: []bus.StreamConfig{c}}, false)
	return c.Subjects[0], err
}

// kv makes an empty bucket like the one of the ledger.
func (s *scratch) kv(ctx context.Context, b bus.Bus, name string) (bus.KV, error) {
	c := bus.KVConfig{
		Name: streamPrefix + s.run + "_" + strings.ToUpper(name), Description: "a measurement, not of use to anybody else",
		MarkerTTL: time.Minute,
	}
	s.streams = append(s.streams, "KV_"+c.Name)
	if _, err := topology.Apply(ctx, s.js, topology.Topology{Buckets: []bus.KVConfig{c}}, false); err != nil {
		return nil, err
	}
	return b.KV(ctx, c.Name)
}

// listed counts the objects that are there.
func (s *scratch) listed(ctx context.Context) (int, error) {
	n := 0
	for _, bucket := range scratchBuckets() {
		for _, err := range s.objects.List(ctx, bucket, s.prefix) {
			if err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

func scratchBuckets() []string { return []string{contract.BucketRaw, contract.BucketProcessed} }

// clean removes everything, also where ctx is over, and joins what went wrong to err.
func (s *scratch) clean(ctx context.Context, err *error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	var errs []error
	for _, name := range s.streams {
		if err := s.js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			errs = append(errs, fmt.Errorf("delete stream %s: %w", name, err))
		}
	}
	for _, bucket := range scratchBuckets() {
		errs = append(errs, remove(ctx, s.objects, bucket, s.prefix, func(string) bool { return true }))
	}
	*err = errors.Join(append([]error{*err}, errs...)...)
}

// lookBefore takes note of whether archives are there.
func (r *run) lookBefore(ctx context.Context) error {
	for _, err := range r.Objects.List(ctx, contract.BucketArchive, "") {
		if err != nil {
			return fmt.Errorf("look at the archives: %w", err)
		}
		r.archived = true
		r.report.note("the store had archives before, so those of this run stay beside them")
		break
	}
	return nil
}

// removeDocuments removes what the line stored of the documents of the run: each of their
// objects has the run in its name. Archives have not, and are removed only where there were
// none before. Also where ctx is over.
func (r *run) removeDocuments(ctx context.Context, err *error) {
	if r.sent == 0 {
		return
	}
	r.progress("removing what the line stored")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	errs := []error{*err}
	for _, bucket := range contract.Buckets() {
		errs = append(errs, remove(ctx, r.Objects, bucket, "", func(key string) bool {
			return strings.Contains(key, r.id) || bucket == contract.BucketArchive && !r.archived
		}))
	}
	*err = errors.Join(errs...)
}

// remove removes those objects of a bucket whose keys begin with prefix and are ours.
func remove(ctx context.Context, s store.Store, bucket, prefix string, ours func(key string) bool) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(deleteParallel)
	var listing error
	for o, err := range s.List(ctx, bucket, prefix) {
		if err != nil {
			listing = err
			break
		}
		if ours(o.Key) {
			g.Go(func() error { return s.Delete(ctx, o.Ref) })
		}
	}
	return errors.Join(listing, g.Wait())
}
