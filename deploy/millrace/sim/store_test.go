package sim

import (
	"context"
	"iter"
	"strings"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

// faultyStore is the object store as a stage of one life sees it.
type faultyStore struct {
	store.Store
	*layer
}

// Put stores each object for itself, so that of one call some may be there and some not.
func (s *faultyStore) Put(ctx context.Context, objects ...store.Object) []error {
	errs := make([]error, len(objects))
	failed := false
	for i, o := range objects {
		errs[i] = s.put(ctx, o)
		failed = failed || errs[i] != nil
	}
	if !failed {
		return nil
	}
	return errs
}

func (s *faultyStore) put(ctx context.Context, o store.Object) error {
	effect := func(ctx context.Context) error {
		for _, err := range s.Store.Put(ctx, o) {
			return err
		}
		return nil
	}
	if s.world.bug == storesLater && !o.CreateOnly {
		s.world.later(storesAfter, func() {
			if !s.life.isDead() {
				_ = effect(context.WithoutCancel(ctx))
			}
		})
		return nil
	}
	if o.Bucket == contract.BucketJobs && strings.HasPrefix(o.Key, "processed/") {
		return s.do(ctx, opResult, o.String(), effect)
	}
	return s.do(ctx, opPut, o.String(), effect)
}

func (s *faultyStore) Get(ctx context.Context, r store.Ref) (*store.Object, error) {
	if r.Bucket == contract.BucketArchive { // some of these are read under a lock
		if s.life.isDead() || s.world.out(opFetch) {
			return nil, errRefused
		}
		return s.Store.Get(ctx, r)
	}
	return call(ctx, s.layer, opFetch, r.String(), func(ctx context.Context) (*store.Object, error) { return s.Store.Get(ctx, r) })
}

func (s *faultyStore) Stat(ctx context.Context, r store.Ref) (store.Info, error) {
	return call(ctx, s.layer, opFetch, r.String(), func(ctx context.Context) (store.Info, error) { return s.Store.Stat(ctx, r) })
}

func (s *faultyStore) List(ctx context.Context, bucket, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		if err := s.do(ctx, opFetch, bucket, func(context.Context) error { return nil }); err != nil {
			yield(store.Info{}, err)
			return
		}
		s.Store.List(ctx, bucket, prefix)(yield)
	}
}

func (s *faultyStore) Delete(ctx context.Context, r store.Ref) error {
	return s.do(ctx, opPut, r.String(), func(ctx context.Context) error { return s.Store.Delete(ctx, r) })
}

func (s *faultyStore) Remove(ctx context.Context, refs ...store.Ref) []error {
	errs := make([]error, len(refs))
	for i, r := range refs {
		errs[i] = s.Delete(ctx, r)
	}
	return errs
}

func (s *faultyStore) Ready(ctx context.Context) error {
	if s.life.isDead() || s.world.out(opPut) {
		return errRefused
	}
	return s.Store.Ready(ctx)
}
