package policy

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
)

// Keys lists the keys of all policies.
func Keys() []string { return []string{KeyStorage, KeyLLM} }

// Seeds are all policies as they are before anybody has changed them.
type Seeds struct {
	Storage Storage
	LLM     LLM
}

// NewSeeds returns all policies as they are before anybody has changed them, with documents
// stored in the given views or, where there are none, in all.
func NewSeeds(views []contract.View) Seeds { return Seeds{Storage: Seed(views), LLM: SeedLLM()} }

// Plant writes each seed as the policy of its key where there is none. It returns the keys, and
// for each whether it was written.
func (s Seeds) Plant(ctx context.Context, b bus.Bus) (map[string]bool, error) {
	planted := map[string]bool{}
	var err error
	if planted[KeyStorage], err = Plant(ctx, b, s.Storage); err != nil {
		return planted, err
	}
	planted[KeyLLM], err = Plant(ctx, b, s.LLM)
	return planted, err
}

// Missing returns the keys, and for each whether Plant would write it.
func (s Seeds) Missing(ctx context.Context, b bus.Bus) (map[string]bool, error) {
	storage, err := Read(ctx, b, s.Storage)
	if err != nil {
		return nil, err
	}
	llm, err := Read(ctx, b, s.LLM)
	if err != nil {
		return nil, err
	}
	return map[string]bool{KeyStorage: storage.Revision == 0, KeyLLM: llm.Revision == 0}, nil
}

// Set follows all policies of a line. It may be used concurrently.
type Set struct {
	storage *Watcher[Storage]
	llm     *Watcher[LLM]
}

// Follow reads all policies and follows them until Stop. Error: bus.ErrNoStream where
// LLM_CONFIG does not exist. Nobody is told of numbers where reg is nil.
func Follow(ctx context.Context, b bus.Bus, seeds Seeds, reg prometheus.Registerer, log zerolog.Logger) (*Set, error) {
	storage, err := Watch(ctx, Settings[Storage]{Bus: b, Seed: seeds.Storage, Metrics: reg, Log: log})
	if err != nil {
		return nil, err
	}
	llm, err := Watch(ctx, Settings[LLM]{Bus: b, Seed: seeds.LLM, Metrics: reg, Log: log})
	if err != nil {
		storage.Stop()
		return nil, err
	}
	return &Set{storage: storage, llm: llm}, nil
}

// Storage returns the storage policy as it is now.
func (s *Set) Storage() Storage { return s.storage.Now() }

// LLM returns the policy on models' answers as it is now.
func (s *Set) LLM() LLM { return s.llm.Now() }

// Stop ends the watches; the policies stay as they are. Idempotent.
func (s *Set) Stop() {
	s.storage.Stop()
	s.llm.Stop()
}
