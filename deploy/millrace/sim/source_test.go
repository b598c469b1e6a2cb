package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// sourceURL is where the scrape stage believes its source to be. There is no network.
const sourceURL = "https://boards.sim"

// reply is one answer of the source.
type reply struct {
	status int
	body   string
	wait   time.Duration
}

func (r reply) String() string {
	return fmt.Sprintf("%d after %s, %d bytes", r.status, r.wait, len(r.body))
}

// newReply makes one answer of the source. Two of the three jobs are one and the same.
func newReply(r *rand.Rand) reply {
	job := func(n int) string {
		return fmt.Sprintf(`{"id":%d,"title":"Python Developer","company_name":"Acme","absolute_url":"https://example.org/%d","location":{"name":"Sydney, Australia"},"content":"Write"}`, n, n)
	}
	found := reply{status: http.StatusOK, body: `{"jobs":[` + job(11) + "," + job(11) + "," + job(12) + `]}`}
	switch r.IntN(8) {
	case 0:
		return reply{status: http.StatusInternalServerError}
	case 1:
		return reply{status: http.StatusTooManyRequests}
	case 2:
		return reply{status: http.StatusOK, body: `{"jobs":[`}
	case 3:
		found.wait = time.Duration(r.IntN(40_000)) * time.Millisecond
	}
	return found
}

// source is the job board as an http.RoundTripper. It may be used concurrently.
type source struct {
	replies []reply

	mu    sync.Mutex
	asked int
}

func (s *source) RoundTrip(req *http.Request) (*http.Response, error) {
	a := reply{status: http.StatusNotFound}
	if strings.HasPrefix(req.URL.Path, "/v1/boards/") {
		s.mu.Lock()
		a = s.replies[s.asked%len(s.replies)]
		s.asked++
		s.mu.Unlock()
	}
	if err := sleep(req.Context(), a.wait); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: a.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(a.body)), ContentLength: int64(len(a.body)), Request: req,
	}, nil
}
