package operate

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

// storeGrain is how coarse the times of objects are.
const storeGrain = time.Second

// objects checks the object store.
func (d *Doctor) objects(ctx context.Context) {
	s, err := d.S3(ctx)
	if err != nil {
		d.note("store", Fail, "set S3_ENDPOINT, S3_ACCESS_KEY and S3_SECRET_KEY", "%v", err)
		return
	}
	if !d.buckets(ctx, s) {
		return
	}
	can, err := s.Probe(ctx)
	if err != nil {
		d.note("store", Fail, "", "%v", err)
		return
	}
	d.capabilities(can)
	d.versions(ctx, s)
	d.testObject(ctx, s)
}

// buckets reports whether all buckets are there.
func (d *Doctor) buckets(ctx context.Context, s store.Store) bool {
	var lacking []string
	for _, bucket := range contract.Buckets() {
		gone, err := missing(ctx, s, bucket)
		if err != nil {
			d.note("store", Fail, "start the store, or set S3_ENDPOINT and its keys", "%v", err)
			return false
		}
		if gone {
			lacking = append(lacking, d.names.Physical(bucket))
		}
	}
	if len(lacking) > 0 {
		d.note("buckets", Fail, planAdvice, "missing: %s", strings.Join(lacking, ", "))
		return false
	}
	d.note("buckets", OK, "", "all %d are there", len(contract.Buckets()))
	return true
}

// Capability is one thing that a store can do or not.
type Capability struct {
	Name string
	Has  bool
}

// CapabilityList names what a store can do, for people.
func CapabilityList(can store.Capabilities) []Capability {
	return []Capability{
		{"conditional put", can.ConditionalPut},
		{"checksums", can.Checksums},
		{"list after put", can.ListAfterPut},
		{"batched put", can.BatchedPut},
		{"multi-object delete", can.MultiDelete},
		{"versioning", can.Versioning},
		{"lifecycle", can.Lifecycle},
		{"lock", can.Lock},
		{"encryption", can.Encryption},
	}
}

// capabilities says what the store can do. Two things guard a promise: the conditional put,
// that a file name is given once, and the checksums, that a body damaged on its way is
// refused.
func (d *Doctor) capabilities(can store.Capabilities) {
	var has, lacks []string
	for _, c := range CapabilityList(can) {
		if c.Has {
			has = append(has, c.Name)
		} else {
			lacks = append(lacks, c.Name)
		}
	}
	text := fmt.Sprintf("can do: %s; cannot, and is not asked to: %s", list(has), list(lacks))
	switch {
	case !can.ConditionalPut:
		d.note("store", Warn, "use a store with conditional puts, or names of documents that are unique",
			"%s; two documents with one file name can take it both", text)
	case !can.Checksums:
		d.note("store", Warn, "use a store that verifies Content-MD5",
			"%s; a body damaged on its way is stored as it arrives", text)
	default:
		d.note("store", OK, "", "%s", text)
	}
}

func list(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// testObject writes an object, reads it back and deletes it.
func (d *Doctor) testObject(ctx context.Context, s store.Store) {
	ref := store.Ref{Bucket: contract.BucketProcessed, Key: "_probe/doctor-" + strings.ToLower(rand.Text())}
	body := []byte(`{"written_by":"millrace doctor"}`)
	before := time.Now()
	err := errors.Join(s.Put(ctx, store.Object{Ref: ref, Body: body})...)
	after := time.Now()
	if err != nil {
		d.note("test object", Fail, "", "%v", err)
		return
	}
	there, err := s.Get(ctx, ref)
	if err == nil && !bytes.Equal(there.Body, body) {
		err = fmt.Errorf("%s was read back with other bytes", ref)
	}
	info, statErr := s.Stat(ctx, ref)
	err = errors.Join(err, statErr, s.Delete(ctx, ref))
	if v, ok := s.(store.Versioner); ok && err == nil {
		if have, known := v.Versions(ctx, ref.Bucket); known == nil && have.Kept {
			_ = v.Erase(ctx, ref.Bucket, ref.Key) // what a lock keeps stays until its time
		}
	}
	if err != nil {
		d.note("test object", Fail, "", "%v", err)
		return
	}
	d.note("test object", OK, "", "written, read back and deleted in %s", time.Since(before).Round(time.Millisecond))
	d.clock("store clock", info.Modified, before, after, storeGrain)
}
