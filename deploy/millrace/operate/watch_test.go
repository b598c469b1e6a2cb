package operate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/ledger"
)

// watched is a watcher whose rounds the test makes.
type watched struct {
	*set
	w       *Watcher
	now     time.Time
	events  []string
	trouble []string
}

func watch(t *testing.T) *watched {
	t.Helper()
	x := &watched{set: setup(t), now: time.Now().Add(time.Hour)}
	x.w = &Watcher{
		Dir: t.TempDir(), Bus: x.bus, Ledger: x.ledger, Publisher: x.publisher(),
		Report: func(e Event) {
			x.events = append(x.events, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", e.State, e.File, e.Stage, e.Reason)))
		},
		Trouble: func(err error) { x.trouble = append(x.trouble, err.Error()) },
		Now:     func() time.Time { return x.now },
	}
	require.NoError(t, x.w.Start(t.Context()))
	return x
}

func (x *watched) put(path, body string) {
	x.t.Helper()
	require.NoError(x.t, os.WriteFile(filepath.Join(x.w.Dir, path), []byte(body), 0o600))
}

// round makes a round and returns what was reported.
func (x *watched) round() []string {
	x.t.Helper()
	x.events = nil
	require.NoError(x.t, x.w.Round(x.t.Context()))
	return x.events
}

// restart begins anew over the same folder.
func (x *watched) restart() []string {
	x.t.Helper()
	x.events = nil
	require.NoError(x.t, x.w.Start(x.t.Context()))
	return x.events
}

func (x *watched) files(folder State) []string {
	x.t.Helper()
	names, err := x.w.names(string(folder))
	require.NoError(x.t, err)
	return names
}

func TestAFileGoesThroughTheFolders(t *testing.T) {
	t.Parallel()
	x := watch(t)
	x.put("a.json", envelope("a", "{}"))
	x.put("b.json", envelope("b", "{}"))
	x.put("c.txt", "no document")
	x.put(".d.json", "hidden")
	require.Equal(t, []string{"pending a.json", "pending b.json", "processing a.json", "processing b.json"}, x.round())
	require.Empty(t, x.round())
	x.accept("a", envelope("a", "{}"))
	x.accept("b", envelope("b", "{}"))
	require.Empty(t, x.round())
	x.finish("a", ledger.Completed, contract.Archive, "")
	require.Equal(t, []string{"completed a.json"}, x.round())
	x.finish("b", ledger.Dead, contract.Enrich, contract.ReasonExhausted)
	require.Equal(t, []string{"failed b.json enrich exhausted"}, x.round())
	require.Equal(t, []string{"a.json"}, x.files(Completed))
	require.Equal(t, []string{"b.json"}, x.files(Failed))
	require.Empty(t, x.files(Processing))
	require.Empty(t, x.trouble)
}

func TestAFileIsTakenOnceItIsWritten(t *testing.T) {
	t.Parallel()
	x := watch(t)
	x.now = time.Now().Add(-time.Hour) // the file's clock is ahead, so only looking tells
	x.put("a.json", "{")
	require.Empty(t, x.round())
	x.now = x.now.Add(900 * time.Millisecond)
	x.put("a.json", "{}")
	require.Empty(t, x.round())
	x.now = x.now.Add(900 * time.Millisecond)
	require.Empty(t, x.round(), "it changed 0.9 s ago")
	x.now = x.now.Add(200 * time.Millisecond)
	require.Equal(t, []string{"pending a.json", "processing a.json"}, x.round())
}

func TestASecondFileOfANameGetsANumber(t *testing.T) {
	t.Parallel()
	x := watch(t)
	for _, body := range []string{`{"n":1}`, `{"n":2}`, `{"n":1}`} {
		x.put("a.json", body)
		x.round()
	}
	require.Equal(t, []string{"a.json", "a~2.json", "a~3.json"}, x.files(Processing))
	require.Equal(t, "a.json", x.last(contract.StreamRaw).Header[contract.HeaderName])
	ids := x.w.processing
	require.NotEqual(t, ids["a.json"].id, ids["a~2.json"].id)
	require.Equal(t, ids["a.json"].id, ids["a~3.json"].id, "the same name and bytes are the same document")
}

func TestAWatcherThatStartsAgainGoesOn(t *testing.T) {
	t.Parallel()
	x := watch(t)
	down := &unsure{Bus: x.bus, left: bus.InsistTries, err: fault.Down(bus.ErrFull)}
	x.put("a.json", `{"n":1}`)
	require.Len(t, x.round(), 2)
	id := x.w.processing["a.json"].id
	x.w.Publisher.Bus = down
	x.put("b.json", `{"n":2}`)
	require.Equal(t, []string{"pending b.json"}, x.round(), "it was stored, but nobody knows")
	require.Len(t, x.trouble, 1)
	require.Contains(t, x.trouble[0], "the queue is full")
	second := x.w.pending["b.json"].id

	x.w.Publisher.Bus = x.bus
	require.Empty(t, x.restart())
	require.Equal(t, id, x.w.processing["a.json"].id)
	x.now = x.now.Add(time.Minute)
	require.Equal(t, []string{"processing b.json"}, x.round())
	require.Equal(t, second, x.w.processing["b.json"].id)
	info, err := x.bus.Info(t.Context(), contract.StreamRaw)
	require.NoError(t, err)
	require.Equal(t, uint64(2), info.Messages, "each was stored once")
}

func TestTroubleIsToldOnceAndWaitedFor(t *testing.T) {
	t.Parallel()
	x := watch(t)
	x.w.Publisher.Bus = &unsure{Bus: x.bus, left: 2, err: fault.Down(bus.ErrFull)}
	x.put("a.json", "{}")
	x.round()
	require.Empty(t, x.round(), "nothing is published before the pause is over")
	x.now = x.now.Add(troublePause)
	require.Empty(t, x.round())
	x.now = x.now.Add(troublePause)
	require.Equal(t, []string{"processing a.json"}, x.round())
	require.Len(t, x.trouble, 2, "told again after a round that had none")
}

func TestEndsThatTheLedgerForgotAreFound(t *testing.T) {
	t.Parallel()
	x := watch(t)
	for _, id := range []string{"a", "b", "c"} {
		x.put("processing/"+id+".json", envelope(id, "{}"))
	}
	x.complete("a")
	x.bury(contract.Enrich, contract.ReasonExhausted, "b", "{}", nil)
	require.ElementsMatch(t, []string{"completed a.json", "failed b.json enrich exhausted"}, x.restart())
	require.Equal(t, []string{"c.json"}, x.files(Processing))
}

func TestAConflictFails(t *testing.T) {
	t.Parallel()
	x := watch(t)
	x.accept("a", "other bytes")
	x.put("a.json", envelope("a", "{}"))
	x.round()
	require.Equal(t, []string{"a.json"}, x.files(Failed))
}

func TestADocumentWithAnInvalidFileIDIsFollowedByItsBytes(t *testing.T) {
	t.Parallel()
	x := watch(t)
	body := envelope("a b", "{}")
	x.put("a.json", body)
	require.Equal(t, []string{"pending a.json", "processing a.json"}, x.round())
	x.bury(contract.Ingest, contract.ReasonMalformed, "other", "other bytes", nil)
	x.bury(contract.Ingest, contract.ReasonMalformed, "made", body, nil)
	x.w.processing["a.json"].since = time.Now() // the broker's clock is not the test's
	x.now = x.now.Add(badEvery)
	require.Equal(t, []string{"failed a.json ingest malformed"}, x.round())
}

func TestAFileThatCannotBePublishedFails(t *testing.T) {
	t.Parallel()
	x := watch(t)
	x.w.Publisher.Bus = &unsure{Bus: x.bus, left: 1, err: errors.New("never")}
	x.put("a.json", "{}")
	require.Equal(t, []string{"pending a.json", "failed a.json"}, x.round())
}

func TestRunTakesNoticeOfNewFiles(t *testing.T) {
	t.Parallel()
	x := watch(t)
	ctx, cancel := context.WithCancel(t.Context())
	reported := make(chan Event, 10)
	x.w.Report = func(e Event) { reported <- e }
	x.w.Now = time.Now
	done := make(chan error, 1)
	go func() { done <- x.w.Run(ctx) }()
	temp := filepath.Join(x.w.Dir, "a.tmp")
	require.NoError(t, os.WriteFile(temp, []byte("{}"), 0o600))
	past := time.Now().Add(-time.Minute)
	require.NoError(t, os.Chtimes(temp, past, past))
	require.NoError(t, os.Rename(temp, filepath.Join(x.w.Dir, "a.json")))
	require.Equal(t, Pending, (<-reported).State)
	require.Equal(t, Processing, (<-reported).State)
	cancel()
	require.NoError(t, <-done)
}
