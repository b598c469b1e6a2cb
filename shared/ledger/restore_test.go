package ledger_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/ledger"
)

func TestRestoreTouchesNothingThatStands(t *testing.T) {
	t.Parallel()
	l := open(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ended := ledger.Entry{
		SHA256: "a", State: ledger.Done, Stage: contract.Archive, At: at,
		Holder: ledger.Holder{WorkID: "f1", Replay: 2, Kind: ledger.Completed}, Replay: 2,
	}
	restored, err := l.Restore(t.Context(), "f1", ended)
	require.NoError(t, err)
	require.True(t, restored)
	e, err := l.Read(t.Context(), "f1")
	require.NoError(t, err)
	require.Equal(t, ended, e)
	opening, _, err := l.Open(t.Context(), "f1", message(1, "a", 0))
	require.NoError(t, err)
	require.Equal(t, ledger.Duplicate, opening)
	require.Equal(t, ledger.Lost, take(t, l, "f1", 0, ledger.Completed), "a late end of a lower replay count lost")
	require.Equal(t, ledger.Finished, take(t, l, "f1", 2, ledger.Completed))

	opening, _, err = l.Open(t.Context(), "f2", message(2, "b", 0))
	require.NoError(t, err)
	require.Equal(t, ledger.New, opening)
	restored, err = l.Restore(t.Context(), "f2", ended)
	require.NoError(t, err)
	require.False(t, restored)
	e, err = l.Read(t.Context(), "f2")
	require.NoError(t, err)
	require.Equal(t, ledger.Open, e.State)
}
