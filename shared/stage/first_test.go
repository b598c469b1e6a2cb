package stage_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
)

// What is published stands after a crash, so that an object that the second try would not make
// again must be there before it is named.
func TestObjectsThatDoNotComeAgainAreStoredBeforePublishing(t *testing.T) {
	t.Parallel()
	object := store.Object{Ref: store.Ref{Bucket: contract.BucketJobs, Key: "raw/x"}, Body: []byte("{}")}
	r := setup(t, options{}, handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
		out := next(in)
		out[0].Objects, out[0].ObjectsFirst = []store.Object{object}, true
		return out, nil
	}))
	r.store.down.Store(true)
	r.send(envelope("f1"))
	require.Eventually(t, func() bool { return r.store.puts.Load() > 2 }, waitFor, 5*time.Millisecond)
	require.Empty(t, r.all("LLM_ENRICH"))
	r.store.down.Store(false)
	r.until("LLM_ENRICH", 1)
	_, err := r.store.Get(t.Context(), object.Ref)
	require.NoError(t, err)
}
