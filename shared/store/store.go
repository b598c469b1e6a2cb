// Package store is the object store as the stages see it, and the one writer of objects.
// S3 is the real one, for whatever speaks S3; Memory has the same semantics inside one
// process. One conformance suite (storetest) runs against all of them.
//
// Every method may be called concurrently. A method that could not learn the store's
// answer returns an error whose verdict is fault.Unavailable: the effect is then unknown,
// not absent. A store failure is never permanent.
package store

import (
	"context"
	"errors"
	"iter"
	"time"
)

// What a caller may branch on. They are wrapped, so test with errors.Is.
var (
	// ErrNotFound: no such object, or no such bucket.
	ErrNotFound = errors.New("no such object")
	// ErrExists: a create-only put found the key taken.
	ErrExists = errors.New("object exists")
)

// Ref names an object.
type Ref struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
}

// String returns bucket/key.
func (r Ref) String() string { return r.Bucket + "/" + r.Key }

// Object is what is stored.
type Object struct {
	Ref
	Body        []byte
	ContentType string            // empty means application/json
	Meta        map[string]string // user metadata; names in lower case
	// CreateOnly asks that the key be free: ErrExists where it is not, and the object there
	// is left as it is.
	CreateOnly bool
}

// Info describes a stored object.
type Info struct {
	Ref
	Size     int64
	Modified time.Time
	Meta     map[string]string // empty in listings
}

// Store is an object store.
type Store interface {
	// Put stores objects, each for itself, and returns one error per object in their order
	// (nil where it is stored: readable by anyone, and as durable as the store makes it), or
	// nil where all are stored. Objects of one call may be written in any order and at the
	// same time.
	Put(ctx context.Context, objects ...Object) []error
	// Get reads an object. Error: ErrNotFound.
	Get(ctx context.Context, r Ref) (*Object, error)
	// Stat reads an object's description. Error: ErrNotFound.
	Stat(ctx context.Context, r Ref) (Info, error)
	// List yields the objects of a bucket whose key begins with prefix, in the order of their
	// keys. It yields one error and ends where it cannot go on.
	List(ctx context.Context, bucket, prefix string) iter.Seq2[Info, error]
	// Delete removes an object; a missing one is no error.
	Delete(ctx context.Context, r Ref) error
	// Remove removes many objects, each for itself, and returns one error per object in their
	// order (nil where it is gone; a missing one is no error), or nil where all are gone.
	Remove(ctx context.Context, refs ...Ref) []error
	// EnsureBucket makes a bucket unless it exists; made says whether it did.
	EnsureBucket(ctx context.Context, bucket string) (made bool, err error)
	// Ready returns nil while the store can be reached and written to.
	Ready(ctx context.Context) error
}
