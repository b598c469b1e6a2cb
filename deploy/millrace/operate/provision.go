package operate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/topology"
)

// KindObjects is the kind of a bucket of the object store in the list of changes.
const KindObjects topology.Kind = "objects"

// Provision makes the broker and the store have everything of t and the buckets, or in a dry
// run says what it would do. It is idempotent and deletes nothing; what was done before an
// error is returned with it.
func Provision(ctx context.Context, js jetstream.JetStream, s store.Store, t topology.Topology, dry bool) ([]topology.Change, error) {
	// A store that is not there yet is found out before anything is done.
	if _, err := missing(ctx, s, contract.BucketRaw); err != nil {
		return nil, err
	}
	changes, err := topology.Apply(ctx, js, t, dry)
	if err != nil {
		return changes, err
	}
	for _, bucket := range contract.Buckets() {
		c := topology.Change{Kind: KindObjects, Name: bucket, Action: topology.Unchanged}
		var made bool
		if dry {
			made, err = missing(ctx, s, bucket)
		} else {
			made, err = s.EnsureBucket(ctx, bucket)
		}
		if err != nil {
			return changes, err
		}
		if made {
			c.Action = topology.Created
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// missing reports whether a bucket does not exist, without making it.
func missing(ctx context.Context, s store.Store, bucket string) (bool, error) {
	for _, err := range s.List(ctx, bucket, "_probe/none") {
		if errors.Is(err, store.ErrNotFound) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("look for bucket %q: %w", bucket, err)
		}
		break
	}
	return false, nil
}

// retryPause is the pause between two tries of Await.
const retryPause = 500 * time.Millisecond

// Await calls try until it succeeds, for at most wait; the last error is returned. giveUp
// says which errors no waiting will mend.
func Await(ctx context.Context, wait time.Duration, giveUp func(error) bool, try func(ctx context.Context) error) error {
	deadline := time.Now().Add(wait)
	for {
		err := try(ctx)
		if err == nil || giveUp(err) || time.Now().Add(retryPause).After(deadline) {
			return err
		}
		if sleep(ctx, retryPause) != nil {
			return err
		}
	}
}
