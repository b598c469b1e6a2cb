package scrape

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/doc"
)

// maxRetryAfter bounds what a server may ask for: nothing waits longer than that on its word.
const maxRetryAfter = time.Hour

// sourceError says how a request failed.
type sourceError struct {
	status doc.SourceStatus
	again  bool          // another try may give something else
	after  time.Duration // the least delay before it
	cause  error
}

// Error returns the text of the cause.
func (e *sourceError) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *sourceError) Unwrap() error { return e.cause }

// judge says what an HTTP status means: how the source answered, and whether the same
// request may be answered otherwise in a while.
func judge(status int) (s doc.SourceStatus, again bool) {
	switch status {
	case http.StatusOK, http.StatusNonAuthoritativeInfo:
		return doc.SourceOK, false
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusUnavailableForLegalReasons:
		return doc.SourceBlocked, false
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return doc.SourceLimited, true
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return doc.SourceTimeout, true
	case http.StatusTooEarly, http.StatusInternalServerError, http.StatusBadGateway, http.StatusInsufficientStorage:
		return doc.SourceFailed, true
	default:
		return doc.SourceFailed, false
	}
}

// retryAfter reads a Retry-After header, which holds seconds or a date. What is neither,
// or lies in the past, is 0.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n > int64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return max(time.Duration(n)*time.Second, 0)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
