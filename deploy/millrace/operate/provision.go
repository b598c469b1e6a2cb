package operate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/topology"
)

// KindObjects is the kind of a bucket of the object store in the list of changes.
const KindObjects topology.Kind = "objects"

// KindPolicy is the kind of a policy in the list of changes.
const KindPolicy topology.Kind = "policy"

// Provisioning is what a line needs to have.
type Provisioning struct {
	Bus   *bus.JetStream
	Store store.Store // its buckets have our names
	Plan  topology.Topology
	// Seed becomes the storage policy where there is none.
	Seed policy.Storage
	// Names are what the buckets are called in the store, for the list of changes.
	Names store.Names
	// DryRun only says what would be done.
	DryRun bool
}

// Provision makes the broker and the store have everything of p. It is idempotent and
// deletes nothing but as topology.Apply does; what was done before an error is returned with it.
func Provision(ctx context.Context, p Provisioning) ([]topology.Change, error) {
	// A store that is not there yet is found out before anything is done.
	if _, err := missing(ctx, p.Store, contract.BucketRaw); err != nil {
		return nil, err
	}
	changes, err := topology.Apply(ctx, p.Bus.JetStream(), p.Plan, p.DryRun)
	if err != nil {
		return changes, err
	}
	for _, bucket := range contract.Buckets() {
		var made bool
		if p.DryRun {
			made, err = missing(ctx, p.Store, bucket)
		} else {
			made, err = p.Store.EnsureBucket(ctx, bucket)
		}
		if err != nil {
			return changes, err
		}
		changes = append(changes, change(KindObjects, p.Names.Physical(bucket), made))
	}
	// The policy names the buckets, so it comes when they are there.
	var planted bool
	if p.DryRun {
		var kept policy.Kept
		kept, err = policy.Read(ctx, p.Bus, p.Seed)
		planted = kept.Revision == 0
	} else {
		planted, err = policy.Plant(ctx, p.Bus, p.Seed)
	}
	if err != nil {
		return changes, err
	}
	return append(changes, change(KindPolicy, policy.KeyStorage, planted)), nil
}

func change(kind topology.Kind, name string, made bool) topology.Change {
	c := topology.Change{Kind: kind, Name: name, Action: topology.Unchanged}
	if made {
		c.Action = topology.Created
	}
	return c
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
