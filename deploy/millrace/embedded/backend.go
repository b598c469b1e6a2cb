package embedded

import (
	"context"
	"hash/maphash"
	"os"
	"path/filepath"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3response"
)

// stripes is the number of locks that share the keys.
const stripes = 256

// durable is the folder behind both the S3 server and the in-process store: the posix
// backend with two promises more. What it acknowledged is on disk: a write returns after a
// sync that began when it was done. And names may share a file (hard links): a file that
// has more than one name is never changed, only replaced.
//
// Two locks keep them. change is held for reading while a name gets its file, and for
// writing while the metadata of a file changes in place or a name goes away. The stripe of a key is held while
// the key gets its file, so that a create-only write and a link never both win.
type durable struct {
	*posix.Posix
	root   *os.File
	group  *groupSync
	seed   maphash.Seed
	serial linkSerial
	keys   [stripes]sync.Mutex

	change sync.RWMutex
	closed bool // guarded by change
}

var _ backend.Backend = (*durable)(nil)

func newDurable(p *posix.Posix, root *os.File, group *groupSync) *durable {
	return &durable{Posix: p, root: root, group: group, seed: maphash.MakeSeed()}
}

// PutObject stores an object and returns when it is on disk.
func (d *durable) PutObject(ctx context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	out, err := d.write(ctx, in)
	if err != nil {
		return out, err
	}
	return out, d.settle(ctx)
}

// write stores an object without waiting for the disk.
func (d *durable) write(ctx context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	unlock := func() {}
	defer func() { unlock() }()
	return d.PutObjectWithPostFunc(ctx, in, func(*os.File) error {
		// Only now, for the body may come from a slow client.
		u, err := d.lock(*in.Bucket, *in.Key)
		if err == nil {
			unlock = u
		}
		return err
	})
}

// lock takes what is needed for a key to get a file.
func (d *durable) lock(bucket, key string) (unlock func(), err error) {
	d.change.RLock()
	if d.closed {
		d.change.RUnlock()
		return nil, errStopped
	}
	stripe := &d.keys[maphash.String(d.seed, filepath.Join(bucket, key))%stripes]
	stripe.Lock()
	return func() {
		stripe.Unlock()
		d.change.RUnlock()
	}, nil
}

// close lets no write in any more and returns when those that are done are on disk.
func (d *durable) close() {
	d.change.Lock()
	d.closed = true
	d.change.Unlock()
	d.group.close()
}

// settle returns when everything written before is on disk. It does not end with ctx,
// because the context of a request ends when the server is told to stop, and what is done
// may as well be acknowledged.
func (d *durable) settle(ctx context.Context) error {
	return d.group.join(context.WithoutCancel(ctx), 1)
}

// settled is settle after a write that went well.
func (d *durable) settled(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	return d.settle(ctx)
}

// CompleteMultipartUpload puts an object together and returns when it is on disk.
func (d *durable) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput,
) (s3response.CompleteMultipartUploadResult, string, error) {
	unlock, err := d.lock(*in.Bucket, *in.Key)
	if err != nil {
		return s3response.CompleteMultipartUploadResult{}, "", err
	}
	out, version, err := d.Posix.CompleteMultipartUpload(ctx, in)
	unlock()
	return out, version, d.settled(ctx, err)
}

// CopyObject copies an object, or changes the metadata of one that is copied onto itself,
// and returns when that is on disk.
func (d *durable) CopyObject(ctx context.Context, in s3response.CopyObjectInput) (s3response.CopyObjectOutput, error) {
	var out s3response.CopyObjectOutput
	do := func() (err error) {
		out, err = d.Posix.CopyObject(ctx, in)
		return err
	}
	if in.Bucket == nil || in.Key == nil || in.CopySource == nil {
		return out, do() // refused
	}
	bucket, key, _, err := backend.ParseCopySource(*in.CopySource)
	if err != nil {
		return out, err
	}
	if filepath.Join(bucket, key) == filepath.Join(*in.Bucket, *in.Key) {
		return out, d.alter(ctx, bucket, key, do)
	}
	unlock, err := d.lock(*in.Bucket, *in.Key)
	if err != nil {
		return out, err
	}
	err = do()
	unlock()
	return out, d.settled(ctx, err)
}

// alter runs what changes the metadata of an object in place, after giving the object a
// file of its own.
func (d *durable) alter(ctx context.Context, bucket, key string, do func() error) error {
	err := func() error {
		d.change.Lock()
		defer d.change.Unlock()
		if d.closed {
			return errStopped
		}
		if err := d.renew(bucket, key); err != nil {
			return err
		}
		return do()
	}()
	return d.settled(ctx, err)
}

// PutObjectTagging implements the backend.
func (d *durable) PutObjectTagging(ctx context.Context, bucket, key, version string, tags map[string]string) error {
	return d.alter(ctx, bucket, key, func() error {
		return d.Posix.PutObjectTagging(ctx, bucket, key, version, tags)
	})
}

// DeleteObjectTagging implements the backend.
func (d *durable) DeleteObjectTagging(ctx context.Context, bucket, key, version string) error {
	return d.alter(ctx, bucket, key, func() error { return d.Posix.DeleteObjectTagging(ctx, bucket, key, version) })
}

// PutObjectRetention implements the backend.
func (d *durable) PutObjectRetention(ctx context.Context, bucket, key, version string, retention []byte) error {
	return d.alter(ctx, bucket, key, func() error {
		return d.Posix.PutObjectRetention(ctx, bucket, key, version, retention)
	})
}

// PutObjectLegalHold implements the backend.
func (d *durable) PutObjectLegalHold(ctx context.Context, bucket, key, version string, on bool) error {
	return d.alter(ctx, bucket, key, func() error { return d.Posix.PutObjectLegalHold(ctx, bucket, key, version, on) })
}

// DeleteObject implements the backend. It does not wait for the disk: after a loss of
// power a deleted object may be there again. It goes alone, for it also removes the folders
// that become empty, into which others might be writing.
func (d *durable) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput) (*s3.DeleteObjectOutput, error) {
	d.change.Lock()
	defer d.change.Unlock()
	return d.Posix.DeleteObject(ctx, in)
}

// DeleteObjects implements the backend, as DeleteObject does. It lets others write between
// two objects.
func (d *durable) DeleteObjects(ctx context.Context, in *s3.DeleteObjectsInput) (s3response.DeleteResult, error) {
	var all s3response.DeleteResult
	one := func(o types.ObjectIdentifier) (s3response.DeleteResult, error) {
		d.change.Lock()
		defer d.change.Unlock()
		part := *in
		part.Delete = &types.Delete{Objects: []types.ObjectIdentifier{o}}
		return d.Posix.DeleteObjects(ctx, &part)
	}
	for _, o := range in.Delete.Objects {
		out, err := one(o)
		if err != nil {
			return all, err
		}
		all.Deleted = append(all.Deleted, out.Deleted...)
		all.Error = append(all.Error, out.Error...)
	}
	return all, nil
}

// CreateBucket makes a bucket with the folder for files without a name yet, and returns
// when both are on disk.
func (d *durable) CreateBucket(ctx context.Context, in *s3.CreateBucketInput, acl []byte) error {
	err := d.Posix.CreateBucket(ctx, in, acl)
	if err == nil {
		err = makeTemp(*in.Bucket)
	}
	return d.settled(ctx, err)
}

// makeTemp makes the folder in which the files of a bucket are written.
func makeTemp(bucket string) error {
	return os.MkdirAll(filepath.Join(bucket, posix.MetaTmpDir), dirPerm)
}
