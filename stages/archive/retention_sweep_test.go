package archive

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/store"
)

// hand gives a document to the ledger as its stages do, up to its end where done.
func (l *line) hand(fileID string, done bool) {
	l.t.Helper()
	led, err := ledger.OpenLedger(l.t.Context(), l.bus, 48*time.Hour, time.Now)
	require.NoError(l.t, err)
	_, _, err = led.Open(l.t.Context(), fileID, ledger.Entry{SHA256: "x", Owner: ledger.Owner{Stream: contract.StreamRaw, Seq: 1, Time: time.Now()}})
	require.NoError(l.t, err)
	if !done {
		return
	}
	holder := ledger.Holder{WorkID: fileID, Kind: ledger.Completed}
	_, _, err = led.Take(l.t.Context(), fileID, holder, ledger.Entry{})
	require.NoError(l.t, err)
	require.NoError(l.t, led.Finish(context.WithoutCancel(l.t.Context()), fileID, holder))
}

func TestInboxAndClaimsAreSwept(t *testing.T) {
	t.Parallel()
	inbox := store.Ref{Bucket: "llm-raw", Key: "_inbox/a"}
	claim := store.Ref{Bucket: "llm-processed", Key: "_claim/a/a-enrich.json"}
	enrich := contract.StageSubject(contract.Enrich, contract.Normal, "job_extraction", "openai")
	tests := []struct {
		name    string
		prepare func(l *line)
		after   time.Duration // it is looked, from when they were stored
		left    int           // of the two
	}{
		{"their document has ended", func(l *line) { l.hand("a", true) }, 25 * time.Hour, 0},
		{"their time is not over", func(l *line) { l.hand("a", true) }, 23 * time.Hour, 2},
		{"their document has not ended", func(l *line) { l.hand("a", false) }, 30 * oneDay, 2},
		{"nobody knows their document", nil, 25 * time.Hour, 2},
		{"nobody has known their document for long", nil, 8 * oneDay, 0},
		{"a message names one", func(l *line) {
			l.publish(enrich, bus.Header{contract.HeaderObject: claim.String()})
		}, 30 * oneDay, 1},
		{"a dead letter names one", func(l *line) {
			l.publish(contract.DLQSubject(contract.Ingest, contract.ReasonMalformed), bus.Header{contract.HeaderObject: inbox.String()})
		}, 30 * oneDay, 1},
		{"a retry names one", func(l *line) {
			l.publish(contract.RetrySubject(contract.Enrich, "a", 0), bus.Header{contract.HeaderObject: claim.String()})
		}, 30 * oneDay, 1},
		{"the join waits for others of the document", func(l *line) {
			l.publish(contract.RetrySubject(contract.Aggregate, "a~join", 0), bus.Header{contract.HeaderFileID: "a"})
		}, 30 * oneDay, 2},
		{"one is under a legal hold", func(l *line) { l.storage.LegalHold = []string{"llm-processed/_claim/"} }, 30 * oneDay, 1},
		{"they stay by policy", func(l *line) {
			l.storage.Retention.Inbox, l.storage.Retention.Claims = policy.Keep, policy.Keep
		}, 30 * oneDay, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			onLine(t, func(t *testing.T, l *line) {
				l.storage.Retention.Inbox, l.storage.Retention.Claims = "24h", "24h"
				require.Nil(t, l.objects.Put(t.Context(), store.Object{Ref: inbox}, store.Object{Ref: claim}))
				name := store.Ref{Bucket: "llm-raw", Key: "_name/2000-01-01/a.json"}
				require.Nil(t, l.objects.Put(t.Context(), store.Object{Ref: name}))
				if tt.prepare != nil {
					tt.prepare(l)
				}
				pass(tt.after)
				would := l.expire(ExpireOptions{DryRun: true})
				require.Len(t, l.keys(), 3)
				require.Equal(t, would, l.expire(ExpireOptions{}))
				require.Len(t, l.keys(), 1+tt.left)
				require.Contains(t, l.keys(), name.String())
			})
		})
	}
}

func TestAnInboxObjectOfNoDocumentIsNoError(t *testing.T) {
	t.Parallel()
	onLine(t, func(t *testing.T, l *line) {
		l.storage.Retention.Inbox = "24h"
		require.Nil(t, l.objects.Put(t.Context(), store.Object{Ref: store.Ref{Bucket: "llm-raw", Key: "_inbox/what is this?.txt"}}))
		pass(25 * time.Hour)
		require.NoError(t, l.tick())
		require.Len(t, l.keys(), 1)
		pass(7 * oneDay)
		require.NoError(t, l.tick())
		require.Empty(t, l.keys())
	})
}
