package up

import (
	"context"
	"path/filepath"

	"github.com/jobspy/millrace/deploy/millrace/embedded"
	"github.com/jobspy/millrace/shared/store"
)

// objects is the object store of a line.
type objects struct {
	store.Store

	addr  string
	probe func(ctx context.Context) error // to be called when the buckets are there
	stop  func() error
}

// openStore starts the embedded store, or opens the one that c names.
func openStore(ctx context.Context, c *Config, access, secret string) (*objects, error) {
	if c.Store != nil {
		s, err := store.OpenS3(ctx, *c.Store)
		if err != nil {
			return nil, err
		}
		return &objects{
			Store: s, addr: c.Store.Endpoint,
			probe: func(ctx context.Context) error { _, err := s.Probe(ctx); return err },
			stop:  func() error { s.Close(); return nil },
		}, nil
	}
	s, err := embedded.StartS3(ctx, embedded.S3Config{
		Dir: filepath.Join(c.Dir, "buckets"), Addr: c.S3Addr, AccessKey: access, SecretKey: secret, SyncGap: syncGap,
	})
	if err != nil {
		return nil, err
	}
	return &objects{
		Store: s.Store(), addr: s.Addr(), probe: func(context.Context) error { return nil }, stop: s.Stop,
	}, nil
}
