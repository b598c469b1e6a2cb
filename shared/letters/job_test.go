package letters

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/ledger"
)

// mill is a line that works on what it is sent at once: each replay ends before its publish
// returns.
type mill struct {
	bus.Bus
	s *set

	mu    sync.Mutex
	fails func(fileID string) bool // nil means that none does
	holds bool                     // nothing comes to an end
	full  int                      // how many publishes are refused
	sent  map[string]int           // how often each message was stored
	at    []time.Time
}

func (m *mill) Publish(ctx context.Context, msg bus.Message) (bus.Receipt, error) {
	count := msg.Header[contract.HeaderReplayCount]
	if count == "" || strings.HasPrefix(msg.Subject, contract.RootDLQ) {
		return m.Bus.Publish(ctx, msg)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full > 0 {
		m.full--
		return bus.Receipt{}, fault.Down(bus.ErrFull)
	}
	r, err := m.Bus.Publish(ctx, msg)
	if err != nil || r.Duplicate {
		return r, err
	}
	m.sent[msg.ID]++
	m.at = append(m.at, time.Now())
	if !m.holds {
		n, _ := strconv.Atoi(count)
		m.s.end(msg.Header[contract.HeaderFileID], n, m.fails != nil && m.fails(msg.Header[contract.HeaderFileID]))
	}
	return r, nil
}

// end brings a replay to its end in the ledger, as a dead letter where it failed.
func (s *set) end(fileID string, replay int, failed bool) {
	h := ledger.Holder{WorkID: fileID, Replay: replay, Kind: ledger.Completed}
	e := ledger.Entry{}
	if failed {
		h.Kind, e.Stage, e.Reason = ledger.Dead, contract.Enrich, contract.ReasonExhausted
	}
	_, _, err := s.ledger.Take(s.t.Context(), fileID, h, e)
	require.NoError(s.t, err)
	if failed {
		s.bury(contract.Enrich, contract.ReasonExhausted, fileID, "{}", bus.Header{contract.HeaderReplayCount: strconv.Itoa(replay)})
	}
	require.NoError(s.t, s.ledger.Finish(s.t.Context(), fileID, h))
}

// works is a set with a mill and so many dead letters.
type works struct {
	*set
	mill *mill
	jobs Jobs
}

func setupJobs(t *testing.T, n int) *works {
	t.Helper()
	w := &works{set: setup(t)}
	w.mill = &mill{Bus: w.bus, s: w.set, sent: map[string]int{}}
	w.jobs = Jobs{Bus: w.bus, Now: time.Now}
	for i := range n {
		id := fmt.Sprintf("doc-%03d", i)
		if i%2 == 0 { // the ledger has forgotten the others
			w.accept(id, "{}")
			w.finish(id, ledger.Dead, contract.Enrich, contract.ReasonExhausted)
		}
		w.bury(contract.Enrich, contract.ReasonExhausted, id, "{}", nil)
	}
	return w
}

func (w *works) create(p Plan) Job {
	w.t.Helper()
	all, err := w.letters().List(w.t.Context(), Filter{})
	require.NoError(w.t, err)
	j, err := w.jobs.Create(w.t.Context(), all, p, "everything")
	require.NoError(w.t, err)
	require.Equal(w.t, len(all), j.Total)
	return j
}

func (w *works) executor(b bus.Bus) *Executor {
	l, err := ledger.OpenLedger(w.t.Context(), b, time.Hour, time.Now)
	require.NoError(w.t, err)
	return &Executor{Queue: &Queue{Bus: b, Ledger: l, Store: w.objects, MaxReplays: 5}, Now: time.Now, Log: zerolog.Nop()}
}

// turn has a turn at a job, of a minute at most, and returns how far it came.
func (w *works) turn(id string) Job {
	w.t.Helper()
	require.NoError(w.t, w.executor(w.mill).Turn(w.t.Context(), id, time.Now().Add(time.Minute)))
	return w.job(id)
}

func (w *works) job(id string) Job {
	w.t.Helper()
	j, err := w.jobs.Read(w.t.Context(), id)
	require.NoError(w.t, err)
	return j
}

// timers returns how many timers of jobs there are.
func (w *works) timers() (n int) {
	w.t.Helper()
	for _, err := range w.bus.Scan(w.t.Context(), contract.StreamRetry, contract.RootCron+".*", 0) {
		require.NoError(w.t, err)
		n++
	}
	return n
}

func (w *works) left() int {
	w.t.Helper()
	left, err := w.letters().List(w.t.Context(), Filter{})
	require.NoError(w.t, err)
	return len(left)
}

func TestAJobReplaysAllItsLetters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := setupJobs(t, 150)
		id := w.create(Plan{}).ID
		require.Equal(t, 1, w.timers())
		require.Equal(t, JobRunning, w.job(id).State)
		j := w.turn(id)
		require.Equal(t, JobDone, j.State)
		require.Equal(t, []int{150, 150, 150, 0, 0}, []int{j.Total, j.Sent, j.Completed, j.Failed, j.Skipped})
		require.Len(t, w.mill.sent, 150)
		require.Zero(t, w.left())
		require.Zero(t, w.timers(), "nobody looks after it any more")
		_, err := w.jobs.Cancel(t.Context(), id)
		require.ErrorIs(t, err, ErrEnded)
		_, err = w.jobs.Resume(t.Context(), id)
		require.ErrorIs(t, err, ErrEnded)
	})
}

func TestAFailedCanaryStopsTheJob(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := setupJobs(t, 100)
		w.mill.fails = func(id string) bool { return id == "doc-001" }
		id := w.create(Plan{Canary: 3}).ID
		require.Equal(t, JobCanary, w.job(id).State)
		j := w.turn(id)
		require.Equal(t, JobStopped, j.State)
		require.Equal(t, "canary: 1 of 3 came back; the first: doc-001 came back from enrich: exhausted", j.Why)
		require.Equal(t, []int{3, 2, 1, 0}, []int{j.Sent, j.Completed, j.Failed, j.Skipped})
		require.Len(t, w.mill.sent, 3)
		require.Zero(t, w.timers())

		w.mill.fails = nil
		j, err := w.jobs.Resume(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, JobCanary, j.State)
		require.Equal(t, 1, w.timers())
		j = w.turn(id)
		require.Equal(t, JobDone, j.State)
		require.Equal(t, []int{100, 99, 1, 0}, []int{j.Sent, j.Completed, j.Failed, j.Skipped})
		require.Equal(t, 1, w.left(), "what came back is a letter of its own")
		require.Equal(t, JobDone, w.turn(w.create(Plan{Canary: 3}).ID).State)
		require.Zero(t, w.left())
	})
}

func TestACanaryIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := setupJobs(t, 10)
		w.mill.holds = true
		id := w.create(Plan{Canary: 2}).ID
		j := w.turn(id)
		require.Equal(t, JobCanary, j.State)
		require.Equal(t, 2, j.Sent)
		require.Equal(t, 1, w.timers())
		w.mill.holds = false
		for _, id := range []string{"doc-000", "doc-001"} {
			w.end(id, 1, false)
		}
		require.Equal(t, JobDone, w.turn(id).State)
	})
}

func TestAShareOfFailuresStopsTheJob(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := setupJobs(t, 1500)
		w.mill.fails = func(id string) bool { return strings.HasSuffix(id, "7") }
		tenth, third := 0.05, 0.34
		j := w.turn(w.create(Plan{StopAbove: &tenth}).ID)
		require.Equal(t, JobStopped, j.State)
		require.Contains(t, j.Why, "more than the share of 0.05")
		require.LessOrEqual(t, j.Sent, window, "it was seen before all had been sent")
		require.Equal(t, j.Sent, j.Completed+j.Failed)
		j = w.turn(w.create(Plan{StopAbove: &third}).ID)
		require.Equal(t, JobDone, j.State)
	})
}

func TestARateIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := setupJobs(t, 100)
		began := time.Now()
		id := w.create(Plan{Rate: 1}).ID
		require.Equal(t, JobRunning, w.turn(id).State)
		require.Equal(t, JobDone, w.turn(id).State)
		for i, at := range w.mill.at {
			require.GreaterOrEqual(t, at.Sub(began), time.Duration(i)*time.Second)
		}
		require.Less(t, time.Since(began), 102*time.Second)
	})
}

func TestACancelledJobSendsNothingMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := setupJobs(t, 100)
		id := w.create(Plan{Rate: 1}).ID
		go func() {
			time.Sleep(10 * time.Second) //nolint:forbidigo // it is the clock of the test
			_, err := w.jobs.Cancel(context.WithoutCancel(t.Context()), id)
			if err != nil {
				t.Error(err)
			}
		}()
		j := w.turn(id)
		require.Equal(t, JobCancelled, j.State)
		require.InDelta(t, 11, j.Sent, 1)
		require.Equal(t, j.Sent, j.Completed)
		require.Zero(t, w.timers())
		j, err := w.jobs.Resume(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, JobRunning, j.State)
		w.turn(id)
		require.Equal(t, JobDone, w.turn(id).State)
		require.Len(t, w.mill.sent, 100)
	})
}

func TestWhatCannotBeSentIsSkipped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := setupJobs(t, 5)
		w.bury(contract.Enrich, contract.ReasonExhausted, "often", "{}", bus.Header{contract.HeaderReplayCount: "5"})
		w.bury(contract.Enrich, contract.ReasonExhausted, "bad id", "{}", nil)
		w.bury(contract.Enrich, contract.ReasonMissingObject, "gone", "{}", bus.Header{contract.HeaderObject: "llm-processed/_claim/gone/x"})
		id := w.create(Plan{Canary: 5}).ID
		require.NoError(t, w.bus.Delete(t.Context(), contract.StreamDLQ, 1))
		_, err := w.letters().Send(t.Context(), 2, Replay{})
		require.NoError(t, err)
		j := w.turn(id)
		require.Equal(t, JobDone, j.State)
		require.Equal(t, []int{8, 3, 5}, []int{j.Total, j.Sent, j.Skipped})
		text := fmt.Sprint(j.Problems)
		for _, want := range []string{
			"no such dead letter", "somebody else", "REPLAY_MAX is 5", "no valid Llm-File-Id", "llm-processed/_claim/gone/x",
		} {
			require.Contains(t, text, want)
		}
	})
}

func TestAFullQueueIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := setupJobs(t, 20)
		w.mill.full = 50
		j := w.turn(w.create(Plan{}).ID)
		require.Equal(t, JobDone, j.State)
		require.Equal(t, 20, j.Completed)
	})
}

func TestOfADocumentOnlyTheNewestLetterIsReplayed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := setupJobs(t, 2)
		w.mill.fails = func(string) bool { return true }
		require.Equal(t, 2, w.turn(w.create(Plan{}).ID).Failed)
		w.mill.fails = nil
		all, err := w.letters().List(t.Context(), Filter{All: true})
		require.NoError(t, err)
		require.Len(t, all, 4)
		j, err := w.jobs.Create(t.Context(), all, Plan{Again: true}, "")
		require.NoError(t, err)
		require.Equal(t, 2, j.Total)
		require.Equal(t, 2, w.turn(j.ID).Completed)
	})
}

func TestAReplayThatNeverEndsDoesNotKeepAJobForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := setupJobs(t, 2)
		w.mill.holds = true
		id := w.create(Plan{}).ID
		require.Equal(t, JobRunning, w.turn(id).State)
		time.Sleep(settleFor) //nolint:forbidigo // it is the clock of the test
		j := w.turn(id)
		require.Equal(t, JobDone, j.State)
		require.Contains(t, j.Why, "2 have not come to an end")
		require.Zero(t, w.timers())
	})
}

func TestTheOldestJobsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := setupJobs(t, 1)
		w.mill.holds = true
		first := w.create(Plan{}).ID
		all, err := w.letters().List(t.Context(), Filter{})
		require.NoError(t, err)
		for range maxJobs + 5 {
			j, err := w.jobs.Create(t.Context(), all, Plan{}, "")
			require.NoError(t, err)
			_, err = w.jobs.Cancel(t.Context(), j.ID)
			require.NoError(t, err)
			require.Equal(t, JobCancelled, w.turn(j.ID).State)
		}
		jobs, err := w.jobs.List(t.Context())
		require.NoError(t, err)
		require.Len(t, jobs, maxJobs)
		require.Equal(t, first, jobs[0].ID, "one that is under way stays")
		_, err = w.jobs.Read(t.Context(), "nobody")
		require.ErrorIs(t, err, ErrNoJob)
		_, err = w.jobs.Read(t.Context(), "../x")
		require.ErrorIs(t, err, ErrNoJob)
	})
}

func TestSequencesAreKeptShort(t *testing.T) {
	t.Parallel()
	many := make(Seqs, 0, MaxLetters)
	for i := range uint64(MaxLetters) {
		many = append(many, 100_000_000+3*i)
	}
	text, err := many.MarshalText()
	require.NoError(t, err)
	require.Less(t, len(text), 2<<20, "it fits a message")
	var got Seqs
	require.NoError(t, got.UnmarshalText(text))
	require.Equal(t, many, got)
	_, err = Seqs{2, 2}.MarshalText()
	require.Error(t, err)
	for _, bad := range []string{"%", "AA", "gA", "////////////////"} {
		require.ErrorIs(t, got.UnmarshalText([]byte(bad)), errSeqs, bad)
	}
}
