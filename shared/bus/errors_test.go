package bus

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/fault"
)

func TestEveryRefusalHasItsError(t *testing.T) {
	t.Parallel()
	sentinels := []error{ErrFull, ErrNoStream, ErrNoConsumer, ErrNotFound, ErrExists, ErrRevision, ErrTooLarge}
	tests := []struct {
		code int
		want error // nil means none of them
		down bool
	}{
		{10077, ErrFull, true},
		{10002, ErrFull, true},
		{10023, ErrFull, true},
		{10028, ErrFull, true},
		{10047, ErrFull, true},
		{10054, ErrTooLarge, false},
		{10059, ErrNoStream, true},
		{10014, ErrNoConsumer, true},
		{10149, ErrNoConsumer, true},
		{10037, ErrNotFound, false},
		{10043, ErrNotFound, false},
		{10071, ErrRevision, false},
		{10164, ErrRevision, false},
		{10008, nil, true},
		{10167, nil, true},
	}
	for _, tt := range tests {
		t.Run(strconv.Itoa(tt.code), func(t *testing.T) {
			t.Parallel()
			err := apiFault(&apiError{Code: 400, ErrCode: tt.code, Description: "no"})
			for _, s := range sentinels {
				require.Equal(t, errors.Is(tt.want, s), errors.Is(err, s), s.Error())
			}
			require.Equal(t, tt.down, fault.Of(err).Kind == fault.Unavailable)
		})
	}
}

func TestBothFormsOfAcknowledgementSubjectsAreRead(t *testing.T) {
	t.Parallel()
	p := &puller{j: &JetStream{}, consumer: "validate-low", ackWait: time.Second}
	for _, reply := range []string{
		"$JS.ACK.LLM_VALIDATE.validate-low.3.41.7.1700000000123456789.9",
		"$JS.ACK._.hash.LLM_VALIDATE.validate-low.3.41.7.1700000000123456789.9",
		"$JS.ACK.hub.hash.LLM_VALIDATE.validate-low.3.41.7.1700000000123456789.9.token",
	} {
		d := newDelivery(p, &nats.Msg{Subject: "a", Reply: reply, Sub: &nats.Subscription{}, Data: []byte("1")})
		require.NotNil(t, d, reply)
		require.EqualValues(t, 41, d.stored.Seq, reply)
		require.Equal(t, "LLM_VALIDATE", d.stored.Stream)
		require.Equal(t, 3, d.Count())
		require.EqualValues(t, 1700000000123456789, d.stored.Time.UnixNano())
	}
	require.Nil(t, newDelivery(p, &nats.Msg{Reply: "$JS.ACK.short", Sub: &nats.Subscription{}}))
}

func TestMatches(t *testing.T) {
	t.Parallel()
	tests := []struct {
		filter, subject string
		want            bool
	}{
		{"a.b", "a.b", true},
		{"a.b", "a.c", false},
		{"a.b", "a", false},
		{"a.b", "a.b.c", false},
		{"a.*", "a.b", true},
		{"a.*", "a", false},
		{"a.*", "a.b.c", false},
		{"*.b", "a.b", true},
		{"a.>", "a.b.c", true},
		{"a.>", "a.b", true},
		{"a.>", "a", false},
		{">", "a", true},
		{"*", "a.b", false},
	}
	for _, tt := range tests {
		t.Run(tt.filter+" and "+tt.subject, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, Matches(tt.filter, tt.subject))
		})
	}
}
