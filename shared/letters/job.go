package letters

import (
	"errors"
	"fmt"
	"regexp"
	"time"
)

// JobState says what a job is doing.
type JobState string

// The states of a job.
const (
	JobCanary    JobState = "canary"    // a few are sent, and waited for
	JobRunning   JobState = "running"   // the others are sent
	JobStopped   JobState = "stopped"   // it stopped by itself: see Why
	JobCancelled JobState = "cancelled" // a person stopped it
	JobDone      JobState = "done"      // all were sent, and each has come to an end
)

// Sends reports whether a job in this state has more to send.
func (s JobState) Sends() bool { return s == JobCanary || s == JobRunning }

// Job is a replay of many dead letters, as far as it has come.
type Job struct {
	ID    string   `json:"id"`
	State JobState `json:"state"`
	// Why says why it stopped, or what is odd about its end.
	Why string `json:"why,omitzero"`
	// What says in words what was selected.
	What      string `json:"what,omitzero"`
	Total     int    `json:"total"`
	Sent      int    `json:"sent"`
	Completed int    `json:"completed"`
	Failed    int    `json:"failed"`  // came back as dead letters
	Skipped   int    `json:"skipped"` // were not sent: see Problems
	Canary    int    `json:"canary,omitzero"`
	// Rate is how many are sent in a second at most; 0 means no bound.
	Rate      float64   `json:"rate,omitzero"`
	StopAbove *float64  `json:"stop_above,omitzero"`
	CreatedAt time.Time `json:"created_at"`
	// BegunAt is when the line took it up first; zero means not yet.
	BegunAt time.Time `json:"begun_at,omitzero"`
	EndedAt time.Time `json:"ended_at,omitzero"`
	// Problems are the first that were not sent or came back, and why.
	Problems []Problem `json:"problems,omitzero"`
}

// Problem is what went wrong with one letter of a job.
type Problem struct {
	Seq    uint64 `json:"seq"`
	FileID string `json:"file_id,omitzero"`
	Error  string `json:"error"`
	Back   bool   `json:"came_back,omitzero"` // it was sent and came back
}

// maxProblems is how many problems a job remembers.
const maxProblems = 10

// sent is a replay that was decided on: its count is not given to another any more.
type sent struct {
	Seq    uint64 `json:"s"`
	FileID string `json:"f"`
	Count  int    `json:"n"`
}

// record is a job as it is kept. It alone tells how far the job has come.
type record struct {
	Job

	// Next is the place in the plan of the first letter that nothing was decided about.
	Next int `json:"next"`
	// Sending were decided on; whether they were published their marks tell.
	Sending   []sent    `json:"sending,omitzero"`
	DecidedAt time.Time `json:"decided_at,omitzero"`
	// Open were published and have not come to an end yet.
	Open []sent `json:"open,omitzero"`
	// CanaryLeft is how many of the canary are still to be sent.
	CanaryLeft int `json:"canary_left,omitzero"`
	// From are the ends that came before the job was taken up again, which count no more.
	From ends `json:"from,omitzero"`
	// SendAt is when the next may be sent, where there is a rate.
	SendAt time.Time `json:"send_at,omitzero"`
	// SentAt is when the last were published.
	SentAt time.Time `json:"sent_at,omitzero"`
}

// ends counts replays that came to an end.
type ends struct {
	Completed int `json:"completed,omitzero"`
	Failed    int `json:"failed,omitzero"`
}

// since returns the ends since the job was begun or taken up again.
func (r *record) since() ends {
	return ends{r.Completed - r.From.Completed, r.Failed - r.From.Failed}
}

// problem notes what is wrong with a letter, while there is room.
func (r *record) problem(p Problem) {
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, p)
	}
}

// settled reports whether nothing is left to do for the job.
func (r *record) settled() bool { return !r.State.Sends() && len(r.Sending)+len(r.Open) == 0 }

// minSample is the number of ends from which a share of failures is taken at its word; below,
// the failures count as if there were so many ends.
const minSample = 20

// judge stops a job whose canary or whose share of failures is bad, and lets one go on whose
// canary is good.
func (r *record) judge() (changed bool) {
	if !r.State.Sends() {
		return false
	}
	now := r.since()
	settled := now.Completed + now.Failed
	if r.State == JobCanary && r.CanaryLeft == 0 && len(r.Sending)+len(r.Open) == 0 {
		if now.Failed > 0 {
			r.stop(fmt.Sprintf("canary: %d of %d came back", now.Failed, settled))
			return true
		}
		r.State = JobRunning
		return true
	}
	if r.StopAbove != nil && float64(now.Failed) > *r.StopAbove*float64(max(settled, min(minSample, r.Total))) {
		r.stop(fmt.Sprintf("%d of %d came back, which is more than the share of %g", now.Failed, settled, *r.StopAbove))
		return true
	}
	return false
}

// stop stops a job by itself.
func (r *record) stop(why string) {
	if first := r.cameBack(); first != "" {
		why += "; the first: " + first
	}
	r.State, r.Why = JobStopped, why
}

// cameBack says why the first letter came back that the job remembers.
func (r *record) cameBack() string {
	for _, p := range r.Problems {
		if p.Back {
			return p.FileID + " " + p.Error
		}
	}
	return ""
}

// begin is the state of a job that is begun or taken up again.
func (r *record) begin() {
	r.State, r.Why, r.EndedAt = JobRunning, "", time.Time{}
	r.From = ends{r.Completed, r.Failed}
	r.Problems = nil
	if r.CanaryLeft = r.Canary; r.Canary > 0 {
		r.State = JobCanary
	}
}

var jobForm = regexp.MustCompile(`^[a-z0-9]{1,32}$`)

// What a caller may branch on.
var (
	// ErrNoJob says that there is no such job.
	ErrNoJob = errors.New("no such job")
	// ErrEnded says that a job has nothing left to do.
	ErrEnded = errors.New("the job is done")
)
