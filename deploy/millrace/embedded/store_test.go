package embedded

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/storetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("in process", func(t *testing.T) {
		t.Parallel()
		storetest.Run(t, func(*testing.T) store.Store { return shared.Store() })
	})
	t.Run("over http", func(t *testing.T) {
		t.Parallel()
		probed := client(t)
		_, err := probed.EnsureBucket(t.Context(), contract.BucketProcessed)
		require.NoError(t, err)
		storetest.Run(t, func(*testing.T) store.Store { return probed })
	})
	t.Run("in process through the writer", func(t *testing.T) {
		t.Parallel()
		storetest.Run(t, func(t *testing.T) store.Store {
			w := store.NewWriter(shared.Store(), store.WriterSettings{})
			t.Cleanup(func() { require.NoError(t, w.Close(context.Background())) })
			return w
		})
	})
}
