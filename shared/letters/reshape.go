package letters

import (
	"context"
	"errors"
	"fmt"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/inbox"
	"github.com/jobspy/millrace/shared/store"
)

// reshape makes the body of a replay that is not what failed: patched, or for another stage.
func reshape(l *Letter, body []byte, to contract.Stage, patch []byte, h bus.Header) ([]byte, error) {
	var err error
	if patch != nil {
		if body, err = MergePatch(body, patch); err != nil {
			return nil, err
		}
		delete(h, contract.HeaderSHA256)
	}
	if to == contract.Ingest {
		delete(h, contract.HeaderSHA256)
		return withoutSums(body, patch)
	}
	e, err := doc.Decode(body)
	if err != nil {
		return nil, fmt.Errorf("stage %s takes only envelopes: %w", to, err)
	}
	if e.Metadata.FileID != l.FileID {
		return nil, fmt.Errorf("stage %s takes only envelopes of file_id %q, metadata.file_id is %q", to, l.FileID, e.Metadata.FileID)
	}
	return body, nil
}

// withoutSums removes checksum and size from the metadata of a body for ingest, which would
// hold the changed content against them, unless the patch itself sets them. Other bodies
// stay as they are.
func withoutSums(body, patch []byte) ([]byte, error) {
	var top, meta, patched map[string]codec.Value
	_ = codec.Unmarshal(body, &top) // other bodies have no members
	if codec.KindOf(top["metadata"]) != '{' || top["content"] == nil {
		return body, nil
	}
	if err := codec.Unmarshal(top["metadata"], &meta); err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	var p struct {
		Metadata codec.Value `json:"metadata"`
	}
	if patch != nil && codec.Unmarshal(patch, &p) == nil && len(p.Metadata) > 0 {
		_ = codec.Unmarshal(p.Metadata, &patched) // no object: it sets neither
	}
	for _, name := range []string{"checksum", "file_size"} {
		if patched[name] == nil {
			delete(meta, name)
		}
	}
	m, err := codec.Marshal(meta)
	if err != nil {
		return nil, fmt.Errorf("write metadata: %w", err)
	}
	top["metadata"] = m
	return codec.Marshal(top)
}

// checkIn stores the body of a replay that is too large for a message where its stage looks
// for it.
func (q *Queue) checkIn(ctx context.Context, m *bus.Message, l *Letter, to contract.Stage, count int) error {
	s, err := q.Store(ctx)
	if err != nil {
		return fmt.Errorf("%d bytes are too many for a message: %w", len(m.Body), err)
	}
	ref := store.Ref{
		Bucket: contract.BucketProcessed,
		Key:    contract.ClaimPrefix + l.FileID + "/" + fmt.Sprintf("%s-replay-r%d.json", l.FileID, count),
	}
	small := []byte(`{}`)
	if to == contract.Ingest {
		ref, err = inbox.Keep(ctx, s, l.FileID, m.Body)
	} else {
		err = errors.Join(s.Put(ctx, store.Object{Ref: ref, Body: m.Body})...)
	}
	if err != nil {
		return fmt.Errorf("%d bytes are too many for a message: %w", len(m.Body), err)
	}
	if to != contract.Ingest {
		e, err := doc.Decode(m.Body)
		if err != nil {
			return err
		}
		small, err = (&doc.Envelope{Metadata: e.Metadata}).Encode()
		if err != nil {
			return err
		}
	}
	m.Body, m.Header[contract.HeaderObject] = small, ref.String()
	return nil
}
