package policy

import (
	"context"
	"errors"
	"fmt"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
)

// Kept is the storage policy as it lies in the broker.
type Kept struct {
	Storage
	// Revision is that of the key; 0 where the seed counts because there is no key.
	Revision uint64
	// Refused says why the value of the key does not take effect, so that Storage is the last
	// that Write wrote, or else the seed; nil where it does.
	Refused error
}

// Read returns the storage policy, or seed where there is none.
func Read(ctx context.Context, b bus.Bus, seed Storage) (Kept, error) {
	kv, err := b.KV(ctx, contract.KVConfig)
	if errors.Is(err, bus.ErrNoStream) {
		return Kept{Storage: seed}, nil
	}
	if err != nil {
		return Kept{}, fmt.Errorf("read the storage policy: %w", err)
	}
	e, err := kv.Get(ctx, KeyStorage)
	if errors.Is(err, bus.ErrNotFound) {
		return Kept{Storage: seed}, nil
	}
	if err != nil {
		return Kept{}, fmt.Errorf("read the storage policy: %w", err)
	}
	s, err := ParseStorage(e.Value, seed)
	if err == nil {
		return Kept{Storage: s, Revision: e.Revision}, nil
	}
	kept := Kept{Revision: e.Revision, Refused: err}
	kept.Storage, err = lastGood(ctx, kv, seed)
	return kept, err
}

// lastGood returns the last policy that Write wrote, or seed where there is none.
func lastGood(ctx context.Context, kv bus.KV, seed Storage) (Storage, error) {
	e, err := kv.Get(ctx, keyLast)
	if errors.Is(err, bus.ErrNotFound) {
		return seed, nil
	}
	if err != nil {
		return seed, fmt.Errorf("read the last good storage policy: %w", err)
	}
	s, err := ParseStorage(e.Value, seed)
	if err != nil {
		return seed, nil //nolint:nilerr // it was good for another release
	}
	return s, nil
}

// Write replaces the policy of revision rev, or makes the key where rev is 0. Somebody else's
// change in between is an error: bus.ErrRevision or bus.ErrExists.
func Write(ctx context.Context, b bus.Bus, s Storage, rev uint64) error {
	text, err := s.Text()
	if err != nil {
		return err
	}
	kv, err := b.KV(ctx, contract.KVConfig)
	if err != nil {
		return fmt.Errorf("write the storage policy: %w", err)
	}
	if rev == 0 {
		_, err = kv.Create(ctx, KeyStorage, text, 0)
	} else {
		_, err = kv.Update(ctx, KeyStorage, text, rev, 0)
	}
	if err != nil {
		return fmt.Errorf("write the storage policy: %w", err)
	}
	if _, err := kv.Put(ctx, keyLast, text, 0); err != nil {
		return fmt.Errorf("write the storage policy down as the last good one: %w", err)
	}
	return nil
}

// Plant writes seed as the policy where there is none, and reports whether it did.
func Plant(ctx context.Context, b bus.Bus, seed Storage) (bool, error) {
	err := Write(ctx, b, seed, 0)
	if errors.Is(err, bus.ErrExists) {
		return false, nil
	}
	return err == nil, err
}
