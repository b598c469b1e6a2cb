package ingest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/store"
)

// refilled finds out whether a message sends a document through the line again from its raw
// object, and what was decided of it when it came first. The message is believed only where
// the object that it names lies where this stage puts raw objects and is of its file_id and
// its bytes (which a replay may have patched): anybody may write headers.
func (h *Handler) refilled(ctx context.Context, in *doc.Document, r *reading, sha string) error {
	named := in.Header[contract.HeaderRefillOf]
	if named == "" {
		return nil
	}
	bucket, key, _ := strings.Cut(named, "/")
	ref := store.Ref{Bucket: bucket, Key: key}
	if bucket == contract.BucketRaw && store.CheckRef(ref) == nil {
		info, err := h.objects.Stat(ctx, ref)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		o, bad := doc.ReadOriginal(ref, info.Meta)
		if err == nil && bad == nil && o.FileID == in.Header[contract.HeaderFileID] && (o.SHA256 == sha || in.Replay > 0) {
			r.refill = &o
			return nil
		}
	}
	r.flag("the message says it is a refill of %.120q, which is no raw object of its own", named)
	return nil
}

// stood reports whether a document went on under its own file_id when it came first although
// its metadata names another one. Raw objects of earlier releases do not tell.
func (r *reading) stood(other string) bool {
	o := r.refill
	switch {
	case o == nil:
		return false
	case o.Reason == "":
		return o.ProducerFileID == other
	default: // it was refused for something else
		return o.Reason != contract.ReasonMalformed
	}
}

// refused refuses a refill that was refused when it came first, for something that its bytes
// alone do not tell. A replay is judged anew.
func (r *reading) refused(in *doc.Document) error {
	if r.refill == nil || r.refill.Reason == "" || in.Replay > 0 {
		return nil
	}
	return fault.New(r.refill.Reason, fmt.Sprintf("it was refused as %s when it came first, and was sent again from %s",
		r.refill.Reason, in.Header[contract.HeaderRefillOf]))
}
