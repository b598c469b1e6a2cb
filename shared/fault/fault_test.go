package fault_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/fault"
)

func TestOf(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	tests := []struct {
		name   string
		err    error
		kind   fault.Kind
		reason contract.Reason
		after  time.Duration
	}{
		{"unclassified may work later", cause, fault.Transient, "", 0},
		{"permanent", fault.Permanently(contract.ReasonSchema, cause), fault.Permanent, contract.ReasonSchema, 0},
		{"wrapped", fmt.Errorf("while: %w", fault.RetryAfter(contract.ReasonBlocked, cause, time.Second)), fault.Transient, contract.ReasonBlocked, time.Second},
		{"joined", errors.Join(cause, fault.Down(cause)), fault.Unavailable, "", 0},
		{"waiting", fault.Wait(cause, time.Minute), fault.Waiting, "", time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := fault.Of(tt.err)
			require.Equal(t, tt.kind, v.Kind)
			require.Equal(t, tt.reason, v.Reason)
			require.Equal(t, tt.after, v.After)
			require.ErrorIs(t, tt.err, cause)
		})
	}
}

func TestErrorReadsLikeItsCause(t *testing.T) {
	t.Parallel()
	require.EqualError(t, fault.New(contract.ReasonSchema, "title is missing"), "title is missing")
	require.NoError(t, fault.Down(nil))
}
