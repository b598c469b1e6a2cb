package store

import (
	"context"
	"crypto/md5" //nolint:gosec // the checksum of S3
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/encrypt"
)

const (
	// probePrefix holds what Probe and Ready write and remove.
	probePrefix = "_probe/"
	// snowballPrefix begins the name of the archive that a store leaves behind where it does
	// not unpack batches.
	snowballPrefix = "snowball-upload-"
)

// Capabilities is what a store was seen to do. What is false is not used.
type Capabilities struct {
	ConditionalPut bool `json:"conditional_put"` // a create-only put on a taken key is refused
	BatchedPut     bool `json:"batched_put"`     // the objects of a batch arrive, with their metadata
	Versioning     bool `json:"versioning"`      // the store knows versions of objects
	Versioned      bool `json:"versioned"`       // what is replaced or deleted in this bucket stays as a version
	Lifecycle      bool `json:"lifecycle"`       // the store knows rules that expire objects
	Lock           bool `json:"lock"`            // the store knows object locks
	Encryption     bool `json:"encryption"`      // an object asked to be encrypted at rest says that it is
	Checksums      bool `json:"checksums"`       // a body that is not that of its MD5 is refused
	MultiDelete    bool `json:"multi_delete"`    // several objects are deleted in one request
	ListAfterPut   bool `json:"list_after_put"`  // a listing shows what was put just before
}

// Probe finds out what the store can do by trying it in S3Settings.Bucket, which must
// exist, and removes what it wrote. Batched puts are used from then on where it saw them
// arrive. An error means that nothing was learnt.
func (s *S3) Probe(ctx context.Context) (Capabilities, error) {
	run := probe{s: s, bucket: s.set.Bucket, prefix: probePrefix + strings.ToLower(rand.Text()) + "/"}
	caps, err := run.all(ctx)
	if left := run.clean(ctx); left != nil {
		err = errors.Join(err, left)
	}
	if err != nil {
		return Capabilities{}, fmt.Errorf("probe the object store %q: %w", s.set.Endpoint, err)
	}
	s.caps.Store(&caps)
	s.tidy(context.WithoutCancel(ctx), run.prefix)
	return caps, nil
}

// probe is one run of Probe.
type probe struct {
	s              *S3
	bucket, prefix string
	before         map[string]bool // archives that were there before us
}

func (p *probe) ref(name string) Ref { return Ref{Bucket: p.bucket, Key: p.prefix + name} }

func (p *probe) all(ctx context.Context) (caps Capabilities, err error) {
	if p.before, err = p.archives(ctx); err != nil {
		return caps, err
	}
	for _, try := range []struct {
		seen *bool
		does func(context.Context) (bool, error)
	}{
		{&caps.ConditionalPut, p.conditional},
		{&caps.BatchedPut, p.batched},
		{&caps.Encryption, p.encryption},
		{&caps.Checksums, p.checksums},
		{&caps.ListAfterPut, p.listed},
		{&caps.MultiDelete, p.deletes},
	} {
		if *try.seen, err = try.does(ctx); err != nil {
			return caps, err
		}
	}
	return caps, p.settings(ctx, &caps)
}

// settings finds out which settings of a bucket the store knows. It only asks for them;
// changing them could keep objects for ever.
func (p *probe) settings(ctx context.Context, caps *Capabilities) error {
	kept, versioning := p.s.client.GetBucketVersioning(ctx, p.bucket)
	caps.Versioned = versioning == nil && kept.Enabled()
	_, lifecycle := p.s.client.GetBucketLifecycle(ctx, p.bucket)
	_, _, _, _, lock := p.s.client.GetObjectLockConfig(ctx, p.bucket)
	for _, q := range []struct {
		known  *bool
		err    error
		absent string // the code that says: known, but not set
	}{
		{&caps.Versioning, versioning, ""},
		{&caps.Lifecycle, lifecycle, "NoSuchLifecycleConfiguration"},
		{&caps.Lock, lock, "ObjectLockConfigurationNotFoundError"},
	} {
		answer, answered := errors.AsType[minio.ErrorResponse](q.err)
		if q.err != nil && !answered {
			return classify(ctx, q.err)
		}
		*q.known = q.err == nil || q.absent != "" && answer.Code == q.absent
	}
	return nil
}

// conditional puts one key twice and looks at what is there.
func (p *probe) conditional(ctx context.Context) (bool, error) {
	o := Object{Ref: p.ref("once"), Body: []byte("first"), CreateOnly: true}
	if err := p.s.putOne(ctx, o); err != nil {
		if unsupported(err) {
			return false, nil
		}
		return false, err
	}
	o.Body = []byte("second")
	if err := p.s.putOne(ctx, o); !errors.Is(err, ErrExists) {
		return false, nil
	}
	there, err := p.s.Get(ctx, o.Ref)
	if err != nil {
		return false, err
	}
	return string(there.Body) == "first", nil
}

// batched sends two objects as a batch and looks for them: stores that do not know batches
// report success and keep the archive.
func (p *probe) batched(ctx context.Context) (bool, error) {
	objects := []Object{
		{Ref: p.ref("batch/1"), Body: []byte("one"), Meta: map[string]string{"file-id": "1"}},
		{Ref: p.ref("batch/2"), Body: []byte("two"), Meta: map[string]string{"file-id": "2"}},
	}
	if err := p.s.snowball(ctx, objects, []int{0, 1}); err != nil {
		if minio.ToErrorResponse(err).StatusCode >= http.StatusBadRequest {
			return false, nil
		}
		return false, classify(ctx, err)
	}
	for _, want := range objects {
		got, err := p.s.Get(ctx, want.Ref)
		if errors.Is(err, ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if string(got.Body) != string(want.Body) || got.Meta["file-id"] != want.Meta["file-id"] ||
			got.ContentType != want.contentType() {
			return false, nil
		}
	}
	return true, nil
}

// encryption asks for encryption at rest and looks whether the object says so: some stores
// take the request and do nothing.
func (p *probe) encryption(ctx context.Context) (bool, error) {
	ref := p.ref("sealed")
	opts := minio.PutObjectOptions{
		ServerSideEncryption: encrypt.NewSSE(), SendContentMd5: true, DisableContentSha256: true,
	}
	_, err := p.s.client.PutObject(ctx, ref.Bucket, ref.Key, strings.NewReader("x"), 1, opts)
	if err != nil {
		return false, nil //nolint:nilerr // a store that cannot encrypt says so in many ways
	}
	info, err := p.s.client.StatObject(ctx, ref.Bucket, ref.Key, minio.StatObjectOptions{})
	if err != nil {
		return false, classify(ctx, err)
	}
	return info.Metadata.Get("X-Amz-Server-Side-Encryption") != "", nil
}

// checksums sends a body with the MD5 of another one, which has to be refused.
func (p *probe) checksums(ctx context.Context) (bool, error) {
	ref := p.ref("damaged")
	sum := md5.Sum([]byte("y")) //nolint:gosec // the checksum of S3
	_, err := p.s.once.PutObject(ctx, ref.Bucket, ref.Key, strings.NewReader("x"), 1,
		base64.StdEncoding.EncodeToString(sum[:]), "", minio.PutObjectOptions{DisableContentSha256: true})
	answer, answered := errors.AsType[minio.ErrorResponse](err)
	if err != nil && !answered {
		return false, classify(ctx, err)
	}
	return err != nil && answer.StatusCode == http.StatusBadRequest, nil
}

// listed puts two objects and lists them.
func (p *probe) listed(ctx context.Context) (bool, error) {
	for _, o := range p.several() {
		if err := p.s.putOne(ctx, o); err != nil {
			return false, err
		}
	}
	n := 0
	for _, err := range p.s.List(ctx, p.bucket, p.prefix+"several/") {
		if err != nil {
			return false, err
		}
		n++
	}
	return n == len(p.several()), nil
}

func (p *probe) several() []Object {
	return []Object{{Ref: p.ref("several/1"), Body: []byte("1")}, {Ref: p.ref("several/2"), Body: []byte("2")}}
}

// deletes removes in one request what listed put, and looks whether it is gone.
func (p *probe) deletes(ctx context.Context) (bool, error) {
	var refs []Ref
	for _, o := range p.several() {
		refs = append(refs, o.Ref)
	}
	if err := p.s.deleteMany(ctx, p.bucket, refs); err != nil {
		if _, answered := errors.AsType[minio.ErrorResponse](err); answered {
			return false, nil
		}
		return false, classify(ctx, err)
	}
	for _, r := range refs {
		switch _, err := p.s.Stat(ctx, r); {
		case err == nil:
			return false, nil
		case !errors.Is(err, ErrNotFound):
			return false, err
		}
	}
	return true, nil
}

// archives returns the archives of batches in the bucket.
func (p *probe) archives(ctx context.Context) (map[string]bool, error) {
	found := map[string]bool{}
	for info, err := range p.s.List(ctx, p.bucket, snowballPrefix) {
		if err != nil {
			return nil, err
		}
		found[info.Key] = true
	}
	return found, nil
}

// clean removes what the run wrote, also where ctx is over, and the archive that a store
// left which does not know batches. Of archives that appeared meanwhile only those with our
// objects in them are ours.
func (p *probe) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.s.set.Timeout)
	defer cancel()
	var errs []error
	for _, name := range []string{"once", "batch/1", "batch/2", "sealed", "damaged", "several/1", "several/2"} {
		errs = append(errs, p.s.Delete(ctx, p.ref(name)))
	}
	after, err := p.archives(ctx)
	errs = append(errs, err)
	for key := range after {
		if p.before[key] {
			continue
		}
		ref := Ref{Bucket: p.bucket, Key: key}
		o, err := p.s.Get(ctx, ref)
		if err != nil || !strings.Contains(string(o.Body), p.prefix) {
			continue
		}
		errs = append(errs, p.s.Delete(ctx, ref))
	}
	return errors.Join(errs...)
}

// unsupported reports whether the store refused a request because it does not know it.
func unsupported(err error) bool {
	answer, ok := errors.AsType[minio.ErrorResponse](err)
	return ok && (answer.StatusCode == http.StatusNotImplemented || answer.Code == "NotImplemented")
}
