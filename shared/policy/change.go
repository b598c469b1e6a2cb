package policy

import (
	"context"
	"errors"
	"fmt"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
)

// Policy is a value of a key of LLM_CONFIG.
type Policy[P any] interface {
	// Key is the key.
	Key() string
	// Parse reads a value of the key. What it does not name is taken from the receiver. The
	// error is a *RefusedError.
	Parse(text []byte) (P, error)
	// Text returns the policy with every field, for people.
	Text() ([]byte, error)
}

// lastKey names what was written last by Write. It counts for a process that starts while the
// value of key, from some other client, is a bad one.
func lastKey(key string) string { return key + ".last" }

// Kept is a policy as it lies in the broker.
type Kept[P Policy[P]] struct {
	Value P
	// Revision is that of the key; 0 where the seed counts because there is no key.
	Revision uint64
	// Refused says why the value of the key does not take effect, so that Value is the last
	// that Write wrote, or else the seed; nil where it does.
	Refused error
}

// Read returns the policy of seed's key, or seed where there is none.
func Read[P Policy[P]](ctx context.Context, b bus.Bus, seed P) (Kept[P], error) {
	kept := Kept[P]{Value: seed}
	kv, err := b.KV(ctx, contract.KVConfig)
	if errors.Is(err, bus.ErrNoStream) {
		return kept, nil
	}
	if err != nil {
		return kept, fmt.Errorf("read the %s policy: %w", seed.Key(), err)
	}
	e, err := kv.Get(ctx, seed.Key())
	if errors.Is(err, bus.ErrNotFound) {
		return kept, nil
	}
	if err != nil {
		return kept, fmt.Errorf("read the %s policy: %w", seed.Key(), err)
	}
	kept.Revision = e.Revision
	next, err := seed.Parse(e.Value)
	if err == nil {
		kept.Value = next
		return kept, nil
	}
	kept.Refused = err
	kept.Value, err = lastGood(ctx, kv, seed)
	return kept, err
}

// lastGood returns the last policy that Write wrote, or seed where there is none.
func lastGood[P Policy[P]](ctx context.Context, kv bus.KV, seed P) (P, error) {
	e, err := kv.Get(ctx, lastKey(seed.Key()))
	if errors.Is(err, bus.ErrNotFound) {
		return seed, nil
	}
	if err != nil {
		return seed, fmt.Errorf("read the last good %s policy: %w", seed.Key(), err)
	}
	last, err := seed.Parse(e.Value)
	if err != nil {
		return seed, nil //nolint:nilerr // it was good for another release
	}
	return last, nil
}

// Write replaces the policy of revision rev, or makes the key where rev is 0. Somebody else's
// change in between is an error: bus.ErrRevision or bus.ErrExists.
func Write[P Policy[P]](ctx context.Context, b bus.Bus, p P, rev uint64) error {
	text, err := p.Text()
	if err != nil {
		return err
	}
	kv, err := b.KV(ctx, contract.KVConfig)
	if err != nil {
		return fmt.Errorf("write the %s policy: %w", p.Key(), err)
	}
	if rev == 0 {
		_, err = kv.Create(ctx, p.Key(), text, 0)
	} else {
		_, err = kv.Update(ctx, p.Key(), text, rev, 0)
	}
	if err != nil {
		return fmt.Errorf("write the %s policy: %w", p.Key(), err)
	}
	if _, err := kv.Put(ctx, lastKey(p.Key()), text, 0); err != nil {
		return fmt.Errorf("write the %s policy down as the last good one: %w", p.Key(), err)
	}
	return nil
}

// Plant writes seed as the policy where there is none, and reports whether it did.
func Plant[P Policy[P]](ctx context.Context, b bus.Bus, seed P) (bool, error) {
	err := Write(ctx, b, seed, 0)
	if errors.Is(err, bus.ErrExists) {
		return false, nil
	}
	return err == nil, err
}
