package scrape

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/config"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/stage"
)

// board serves one board's jobs, and everything else as a test wants it.
type board struct {
	*httptest.Server
	mu       sync.Mutex
	handlers map[string]http.HandlerFunc // by path
	asked    map[string]int
	agents   map[string]bool
}

func newBoard(t testing.TB) *board {
	t.Helper()
	b := &board{handlers: map[string]http.HandlerFunc{}, asked: map[string]int{}, agents: map[string]bool{}}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		b.asked[r.URL.Path]++
		b.agents[r.UserAgent()] = true
		h := b.handlers[r.URL.Path]
		b.mu.Unlock()
		if h == nil {
			http.NotFound(w, r)
			return
		}
		h(w, r)
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *board) on(path string, h http.HandlerFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handlers[path] = h
}

func (b *board) count(path string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked[path]
}

func gives(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }
}

func fails(status int, retryAfter string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, "no")
	}
}

func jobsPath(token string) string { return "/v1/boards/" + token + "/jobs" }

const oneJob = `{"jobs":[{"id":11,"title":"Python Developer","absolute_url":"https://example.org/11",
 "location":{"name":"Sydney, Australia"},"updated_at":"2026-08-10T16:52:46-04:00","content":"&lt;p&gt;Write &amp;amp; read&lt;/p&gt;"}]}`

var start = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// build makes the stage for a server, with settings beside.
func build(t testing.TB, server string, settings map[string]string, clock func() time.Time) stage.Handler {
	t.Helper()
	vars := map[string]string{
		"SOURCE_GREENHOUSE_URL": server, "SOURCE_GREENHOUSE_BOARDS": "acme", "SCRAPE_ALLOW_NETS": "127.0.0.0/8",
		"SCRAPE_RATE": "1000", "SCRAPE_BURST": "1000",
	}
	maps.Copy(vars, settings)
	cfg, err := config.Parse[Config](vars)
	require.NoError(t, err)
	if clock == nil {
		clock = func() time.Time { return start }
	}
	h, err := New(t.Context(), cfg, stage.Deps{Clock: clock, Log: zerolog.Nop()})
	require.NoError(t, err)
	return h
}

// task makes a scrape task whose join closes after left.
func task(intent doc.Intent, left time.Duration) *doc.Document {
	in := &doc.Document{Source: sourceGreenhouse, Name: "20260901_120000_intent_analysis_openai_s1.json", Attempt: 1, Lane: contract.High}
	in.Metadata = doc.Metadata{
		FileID: "doc-1", CreatedAt: start, TaskType: string(contract.IntentAnalysis), Provider: "openai",
		ProcessingStatus: contract.StatusRouted,
	}
	in.Content = []byte(`{"intent":{}}`)
	intent.IsJobRelated = true
	in.Standard = &doc.Standard{Intent: &intent, Jobs: []doc.JobPosting{{Title: "left behind"}}}
	in.Routing = &doc.Routing{Sources: []string{sourceGreenhouse}}
	if left != 0 {
		in.Routing.Deadline = start.Add(left).UnixMilli()
	}
	return in
}

func python() doc.Intent { return doc.Intent{JobTitle: "python developer", Location: "sydney"} }

// answered runs one task that must not fail and returns the answer.
func answered(t *testing.T, h stage.Handler, in *doc.Document) (doc.Answer, stage.Output) {
	t.Helper()
	outs, err := h.Handle(t.Context(), in)
	require.NoError(t, err)
	require.Len(t, outs, 1)
	require.Equal(t, contract.Aggregate, outs[0].To)
	require.NotNil(t, outs[0].Doc.Answer)
	return *outs[0].Doc.Answer, outs[0]
}

func TestAnAnswerCarriesTheJobsAndNothingThatAggregateDoesNotNeed(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	b.on(jobsPath("acme"), gives(oneJob))
	in := task(python(), 20*time.Second)
	a, out := answered(t, build(t, b.URL, nil, nil), in)

	require.Equal(t, doc.SourceOK, a.Status)
	require.Empty(t, a.Error)
	require.Equal(t, []doc.JobPosting{{
		Type: "JobPosting", Source: "greenhouse", Identifier: "11", Title: "Python Developer",
		HiringOrganization: &doc.Organization{Type: "Organization", Name: "acme"},
		JobLocation:        &doc.Location{Type: "Place", Text: "Sydney, Australia"},
		DatePosted:         "2026-08-10T20:52:46Z", Description: "Write & read", URL: "https://example.org/11",
	}}, a.Jobs)
	require.Nil(t, out.Doc.Content)
	require.Nil(t, out.Doc.Standard.Jobs)
	require.NotNil(t, out.Doc.Standard.Intent)
	require.Equal(t, in.Routing, out.Doc.Routing)
	require.Equal(t, contract.StatusScraped, out.Doc.Metadata.ProcessingStatus)
	require.Equal(t, "doc-1~greenhouse", out.Doc.WorkID())
	require.Len(t, out.Objects, 1)
	require.Equal(t, "job-data/raw/greenhouse/2026-09-01/"+in.Name, out.Objects[0].String())
	require.Equal(t, out.Objects[0].Ref, *a.Raw)
	require.True(t, out.ObjectsFirst, "after a crash the source may not give it again")
	require.Equal(t, `{"source":"greenhouse","requests":[{"url":"`+b.URL+`/v1/boards/acme/jobs?content=true","status":200,"body":`+oneJob+`}]}`,
		string(out.Objects[0].Body))
	require.Equal(t, map[string]bool{"Millrace/1.0 (+https://github.com/jobspy/millrace)": true}, b.agents)
}

func TestWhateverASourceDoesBecomesItsStatus(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	tests := []struct {
		name     string
		handler  http.HandlerFunc
		robots   http.HandlerFunc
		settings map[string]string
		want     doc.SourceStatus
		text     string
		raw      bool
	}{
		{name: "a refusal is blocked", handler: fails(403, ""), want: doc.SourceBlocked, text: "answered 403", raw: true},
		{name: "an unknown board has failed", handler: fails(404, ""), want: doc.SourceFailed, text: "answered 404", raw: true},
		{name: "a redirect to another host is not followed", handler: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusFound)
		}, want: doc.SourceFailed, text: "answered 302", raw: true},
		{name: "a redirect in circles ends", handler: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.String(), http.StatusFound)
		}, want: doc.SourceFailed, text: "redirects too often"},
		{
			name: "a huge body is not read", handler: gives(strings.Repeat(" ", 5000)),
			settings: map[string]string{"SCRAPE_MAX_BODY_BYTES": "4096"}, want: doc.SourceFailed, text: "over 4096 bytes",
		},
		{
			name: "a slow source is a timeout", handler: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			settings: map[string]string{"SCRAPE_TIMEOUT": "50ms"}, want: doc.SourceTimeout,
		},
		{
			name: "robots.txt that disallows is blocked", handler: gives(oneJob), robots: gives("User-agent: *\nDisallow: /v1/"),
			want: doc.SourceBlocked, text: "robots.txt",
		},
		{
			name: "robots.txt for others does not count", handler: gives(oneJob), robots: gives("User-agent: other\nDisallow: /"),
			want: doc.SourceOK, raw: true,
		},
		{name: "robots.txt that fails is unreachable", handler: gives(oneJob), robots: fails(500, ""), want: doc.SourceUnreachable},
		{name: "robots.txt that is refused allows", handler: gives(oneJob), robots: fails(403, ""), want: doc.SourceOK, raw: true},
		{
			name: "a private address is refused by default", handler: gives(oneJob), settings: map[string]string{"SCRAPE_ALLOW_NETS": ""},
			want: doc.SourceBlocked, text: "not allowed",
		},
		{name: "no connection is unreachable", settings: map[string]string{"SOURCE_GREENHOUSE_URL": gone.URL}, want: doc.SourceUnreachable},
		{name: "no such host is unreachable", settings: map[string]string{"SOURCE_GREENHOUSE_URL": "http://board.invalid"}, want: doc.SourceUnreachable},
		{name: "what is no JSON has failed", handler: gives("<html>Just a moment</html>"), want: doc.SourceFailed, text: "read its jobs", raw: true},
		{name: "other JSON has failed", handler: gives(`{"meta":{}}`), want: doc.SourceFailed, text: "no jobs member", raw: true},
		{
			name: "a board whose jobs are all unreadable has failed", handler: gives(`{"jobs":[{"id":[],"title":"Python"}]}`),
			want: doc.SourceFailed, text: "1 of its jobs could not be read", raw: true,
		},
		{
			name: "a board that is read in part has answered", handler: gives(`{"jobs":[{"id":1},{"id":2,"title":"Cook"}]}`),
			want: doc.SourceOK, text: "1 of its jobs could not be read", raw: true,
		},
		{name: "an empty board has answered", handler: gives(`{"jobs":[]}`), want: doc.SourceOK, raw: true},
		{name: "a wait beyond the deadline is rate_limited", handler: fails(429, "60"), want: doc.SourceLimited, text: "answered 429", raw: true},
		{name: "the last chance lies behind the deadline", handler: fails(500, "20"), want: doc.SourceFailed, raw: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBoard(t)
			b.on(jobsPath("acme"), tt.handler)
			b.on("/robots.txt", tt.robots)
			a, out := answered(t, build(t, b.URL, tt.settings, nil), task(python(), 20*time.Second))
			require.Equal(t, tt.want, a.Status, a.Error)
			require.Contains(t, a.Error, tt.text)
			require.Equal(t, tt.raw, len(out.Objects) == 1)
			require.Equal(t, tt.raw, a.Raw != nil)
		})
	}
}

func TestRetryAfterIsHonouredWhileTheJoinIsOpen(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	b.on(jobsPath("acme"), fails(503, "3"))
	var passed atomic.Int64
	h := build(t, b.URL, nil, func() time.Time { return start.Add(time.Duration(passed.Load())) })

	_, err := h.Handle(t.Context(), task(python(), 20*time.Second))
	v := fault.Of(err)
	require.Equal(t, fault.Transient, v.Kind)
	require.Equal(t, contract.ReasonExhausted, v.Reason)
	require.Equal(t, 3*time.Second, v.After)

	passed.Store(int64(time.Second))
	_, err = h.Handle(t.Context(), task(python(), 20*time.Second))
	require.Equal(t, 2*time.Second, fault.Of(err).After, "the host is left alone meanwhile")
	require.Equal(t, 1, b.count(jobsPath("acme")))

	b.on(jobsPath("acme"), gives(oneJob))
	passed.Store(int64(4 * time.Second))
	a, _ := answered(t, h, task(python(), 20*time.Second))
	require.Equal(t, doc.SourceOK, a.Status)

	outs := h.(stage.GaveUp).GaveUp(task(python(), 0), contract.ReasonExhausted, err)
	require.Equal(t, doc.SourceLimited, outs[0].Doc.Answer.Status)
}

func TestWhatEndsATaskBecomesTheStatusOfItsSource(t *testing.T) {
	t.Parallel()
	h := build(t, "https://boards.example", nil, nil)
	for reason, want := range map[contract.Reason]doc.SourceStatus{
		contract.ReasonTimeout: doc.SourceTimeout, contract.ReasonBlocked: doc.SourceBlocked,
		contract.ReasonPanic: doc.SourceFailed, contract.ReasonExhausted: doc.SourceFailed, contract.ReasonUnroutable: doc.SourceFailed,
	} {
		in := task(python(), 0)
		in.Standard = nil
		outs := h.(stage.GaveUp).GaveUp(in, reason, context.DeadlineExceeded)
		require.Len(t, outs, 1)
		require.Equal(t, want, outs[0].Doc.Answer.Status, reason)
		require.Equal(t, sourceGreenhouse, outs[0].Doc.Answer.Source)
	}
}

func TestOneBoardDoesNotCostTheOthers(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	b.on(jobsPath("acme"), gives(oneJob))
	b.on(jobsPath("down"), fails(500, ""))
	b.on(jobsPath("odd"), gives(`{"jobs":[{"id":null,"title":"Python"},{"id":"x9","title":"Python Engineer","location":{"name":"Remote"}}]}`))
	h := build(t, b.URL, map[string]string{"SOURCE_GREENHOUSE_BOARDS": "down,odd,acme"}, nil)
	a, out := answered(t, h, task(python(), 20*time.Second))
	require.Equal(t, doc.SourceOK, a.Status)
	require.Len(t, a.Jobs, 2)
	require.Equal(t, "x9", a.Jobs[0].Identifier)
	require.Equal(t, "TELECOMMUTE", a.Jobs[0].JobLocationType)
	require.Contains(t, a.Error, "board down: ")
	require.Contains(t, a.Error, "board odd: 1 of its jobs could not be read")
	require.Contains(t, string(out.Objects[0].Body), `"status":500,"body":"no"`)
}

func TestABurstOfDocumentsCostsABoardOneRequest(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	b.on(jobsPath("acme"), gives(oneJob))
	h := build(t, b.URL, nil, nil)
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			outs, err := h.Handle(t.Context(), task(python(), 20*time.Second))
			if err != nil || len(outs[0].Doc.Answer.Jobs) != 1 {
				t.Error("no answer", err)
			}
		})
	}
	all.Wait()
	require.Equal(t, 1, b.count(jobsPath("acme")))
	require.Equal(t, 1, b.count("/robots.txt"))
}

func TestARateBudgetThatIsSpentIsRateLimited(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	b.on(jobsPath("acme"), gives(oneJob))
	// One request per hour, one at once: robots.txt takes it.
	h := build(t, b.URL, map[string]string{"SCRAPE_RATE": "0.0003", "SCRAPE_BURST": "1"}, nil)
	a, _ := answered(t, h, task(python(), 20*time.Second))
	require.Equal(t, doc.SourceLimited, a.Status)
	require.Zero(t, b.count(jobsPath("acme")))
}

func TestATaskIsRefusedOrEndedBeforeAnythingIsAsked(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	h := build(t, b.URL, nil, nil)

	in := task(python(), 20*time.Second)
	in.Source = "elsewhere"
	_, err := h.Handle(t.Context(), in)
	require.Equal(t, contract.ReasonUnroutable, fault.Of(err).Reason)

	in = task(python(), 20*time.Second)
	in.Standard = nil
	_, err = h.Handle(t.Context(), in)
	require.Equal(t, contract.ReasonMalformed, fault.Of(err).Reason)

	a, _ := answered(t, h, task(python(), -time.Second))
	require.Equal(t, doc.SourceTimeout, a.Status)

	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = h.Handle(stopped, task(python(), 20*time.Second))
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, b.asked)
}
