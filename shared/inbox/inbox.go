// Package inbox keeps bodies that are too large for a message where ingest looks for them. It
// guarantees that a body which waits under a file_id is never replaced by another one.
package inbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// MaxMessage is the largest body that travels in a message, in bytes; larger ones are stored
// first.
const MaxMessage = 256 << 10

// Keep stores a body under its file_id. Other bytes that wait there under the same file_id are
// left alone: their message still names them.
func Keep(ctx context.Context, s store.Store, fileID string, body []byte) (store.Ref, error) {
	sha := doc.Sum(body)
	ref := store.Ref{Bucket: contract.BucketRaw, Key: contract.InboxPrefix + fileID}
	for _, o := range []store.Object{
		{Ref: ref, CreateOnly: true},
		{Ref: store.Ref{Bucket: ref.Bucket, Key: ref.Key + "-" + sha[:16]}},
	} {
		o.Body, o.Meta = body, map[string]string{contract.MetaFileID: fileID, contract.MetaSHA256: sha}
		errs := s.Put(ctx, o)
		switch {
		case len(errs) == 0:
			return o.Ref, nil
		case !errors.Is(errs[0], store.ErrExists):
			return o.Ref, fmt.Errorf("store %s: %w", o.Ref, errs[0])
		}
		there, err := s.Stat(ctx, o.Ref)
		if err == nil && there.Meta[contract.MetaSHA256] == sha {
			return o.Ref, nil
		}
	}
	return ref, fmt.Errorf("store %s: %w", ref, store.ErrExists)
}
