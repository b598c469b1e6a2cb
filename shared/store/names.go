package store

import (
	"context"
	"iter"
	"maps"
)

// Names holds other names for buckets: what a bucket is called in the store, by what it is
// called here. A bucket that it does not name is called the same in both places. It is not
// changed once it is in use.
type Names map[string]string

// Physical returns what a bucket is called in the store. The name in the store may be given
// too, so that what stands in a record can be read.
func (n Names) Physical(bucket string) string {
	if name, ok := n[bucket]; ok {
		return name
	}
	return bucket
}

// Logical returns what a bucket of the store is called here.
func (n Names) Logical(bucket string) string {
	for logical, name := range n {
		if name == bucket {
			return logical
		}
	}
	return bucket
}

// Ref returns where an object is in the store.
func (n Names) Ref(r Ref) Ref { return Ref{Bucket: n.Physical(r.Bucket), Key: r.Key} }

// Refs returns where objects are in the store.
func (n Names) Refs(refs []Ref) []Ref {
	out := make([]Ref, len(refs))
	for i, r := range refs {
		out[i] = n.Ref(r)
	}
	return out
}

// Rename returns s as a store whose buckets have the names that the line gives them. What it
// returns names buckets as it was asked for them.
func Rename(s Store, names Names) Store {
	if len(names) == 0 {
		return s
	}
	return &renamed{s, maps.Clone(names)}
}

type renamed struct {
	Store // Ready

	names Names
}

func (r *renamed) Put(ctx context.Context, objects ...Object) []error {
	out := make([]Object, len(objects))
	for i, o := range objects {
		o.Ref = r.names.Ref(o.Ref)
		out[i] = o
	}
	return r.Store.Put(ctx, out...)
}

func (r *renamed) Get(ctx context.Context, ref Ref) (*Object, error) {
	o, err := r.Store.Get(ctx, r.names.Ref(ref))
	if err != nil {
		return nil, err
	}
	o.Ref = ref
	return o, nil
}

func (r *renamed) Stat(ctx context.Context, ref Ref) (Info, error) {
	info, err := r.Store.Stat(ctx, r.names.Ref(ref))
	if err != nil {
		return Info{}, err
	}
	info.Ref = ref
	return info, nil
}

func (r *renamed) List(ctx context.Context, bucket, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for info, err := range r.Store.List(ctx, r.names.Physical(bucket), prefix) {
			if err == nil {
				info.Bucket = bucket
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

func (r *renamed) Delete(ctx context.Context, ref Ref) error {
	return r.Store.Delete(ctx, r.names.Ref(ref))
}

func (r *renamed) Remove(ctx context.Context, refs ...Ref) []error {
	return r.Store.Remove(ctx, r.names.Refs(refs)...)
}

// GetRange implements Ranger over whatever the store below can.
func (r *renamed) GetRange(ctx context.Context, ref Ref, offset, n int64) ([]byte, error) {
	return GetRange(ctx, r.Store, r.names.Ref(ref), offset, n)
}

func (r *renamed) EnsureBucket(ctx context.Context, bucket string) (bool, error) {
	return r.Store.EnsureBucket(ctx, r.names.Physical(bucket))
}
