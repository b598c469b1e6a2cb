package stage

import (
	"context"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/failpoint"
)

// again puts the work back as a schedule, due after delay, and then acknowledges the
// message it came by.
func (r *Runner) again(ctx context.Context, w *work, d *doc.Document, delay time.Duration) error {
	if err := r.store(ctx, d.Objects); err != nil {
		return err
	}
	if err := r.reschedule(ctx, d, delay); err != nil {
		return err
	}
	failpoint.Hit(r.Stage, failpoint.Scheduled)
	return r.ack(ctx, w)
}

// reschedule stores the schedule that brings d back as it was received.
func (r *Runner) reschedule(ctx context.Context, d *doc.Document, delay time.Duration) error {
	h := received(d)
	d.OriginHeader(h)
	h[contract.HeaderAttempt] = strconv.Itoa(d.Attempt)
	h[contract.HeaderLane] = string(d.Lane)
	if len(d.Failures) > 0 {
		h[contract.HeaderFailures] = strings.Join(d.Failures, ",")
	}
	id := d.WorkID()
	if r.Stage == contract.Ingest || (d.Metadata.FileID == "" && d.Timer == "") {
		// Before ingest two messages may have one file_id.
		id = doc.NewID(d.Origin, doc.Sum(d.Body))
	}
	m := bus.Message{Subject: contract.RetrySubject(r.Stage, id, d.Replay), Header: h, Body: d.Body}
	return r.schedule(ctx, m, r.Deps.Clock().Add(delay), contract.DueSubject(r.Stage, d.Lane))
}

// received returns the headers of ours with which d came. It is an allow-list: broker
// headers and anything else a producer set stay behind.
func received(d *doc.Document) bus.Header {
	h := bus.Header{}
	if failpoint.Without(failpoint.AllowList) {
		maps.Copy(h, d.Header)
	}
	for _, name := range contract.Headers() {
		if value := d.Header[name]; value != "" {
			h[name] = value
		}
	}
	return h
}
