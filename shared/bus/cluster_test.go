package bus_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/topology"
)

// A copy learns of a write a moment after the leader has acknowledged it. Whoever reads from it
// in that moment must not be told what was before: a document would have two ends, a result
// would lack an answer.
func TestWhatOneServerAcknowledgedIsReadFromAnother(t *testing.T) {
	t.Parallel()
	const writes = 50
	servers := bustest.Cluster(t)
	bustest.Provision(t, bustest.Connect(t, servers[0]), topology.Options{Replicas: len(servers)})
	w := bustest.Connect(t, servers[0])
	into, err := w.KV(t.Context(), contract.KVLedger)
	require.NoError(t, err)
	for _, s := range servers {
		r := bustest.Connect(t, s)
		from, err := r.KV(t.Context(), contract.KVLedger)
		require.NoError(t, err)
		began := time.Now()
		for i := range writes {
			key := fmt.Sprintf("%s-%d", s.Name(), i)
			rev, err := into.Create(t.Context(), key, []byte(key), 0)
			require.NoError(t, err)
			e, err := from.Get(t.Context(), key)
			require.NoError(t, err, "read %d from %s", i, s.Name())
			require.Equal(t, rev, e.Revision)

			receipt, err := w.Publish(t.Context(), bus.Message{Subject: subject, Body: []byte(key)})
			require.NoError(t, err)
			seq, err := r.SeqAt(t.Context(), stream, began)
			require.NoError(t, err)
			require.LessOrEqual(t, seq, receipt.Seq)
			last := uint64(0)
			for m, err := range r.Scan(t.Context(), stream, "", receipt.Seq) {
				require.NoError(t, err)
				last = m.Seq
			}
			require.Equal(t, receipt.Seq, last, "scan %d from %s", i, s.Name())
		}
	}
}
