package letters

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// Letter is a dead letter without its body.
type Letter struct {
	Seq      uint64          `json:"seq"`
	FailedAt time.Time       `json:"failed_at"`
	Stage    contract.Stage  `json:"stage"`
	Reason   contract.Reason `json:"reason"`
	Error    string          `json:"error"`
	Group    string          `json:"group"` // the id of its Group
	FileID   string          `json:"file_id"`
	Task     string          `json:"task,omitzero"`
	Provider string          `json:"provider,omitzero"`
	Lane     contract.Lane   `json:"lane,omitzero"`
	Name     string          `json:"name,omitzero"`
	Attempts int             `json:"attempts"`
	Failures []string        `json:"failures,omitzero"` // the kinds of the failed attempts
	Replays  int             `json:"replays"`           // how often it had been replayed when it failed
	Replayed bool            `json:"replayed"`          // it has been replayed since
	Object   string          `json:"object,omitzero"`   // bucket/key of the body, where it is not in the message
	Origin   Origin          `json:"origin"`
	Timeline []doc.Step      `json:"timeline,omitzero"`
	Bytes    int             `json:"bytes"` // of the body in the message

	header bus.Header
}

// Origin is the message that failed, as it was delivered first.
type Origin struct {
	Subject string `json:"subject,omitzero"`
	Stream  string `json:"stream,omitzero"`
	Seq     uint64 `json:"seq,omitzero"`
	Time    string `json:"time,omitzero"`
}

// Read reads a message of LLM_DLQ. What it does not understand stays empty.
func Read(m *bus.Stored) Letter {
	d := doc.FromMessage(m)
	h := m.Header
	l := Letter{
		Seq: m.Seq, FailedAt: m.Time.UTC(), FileID: h[contract.HeaderFileID], Error: h[contract.HeaderError],
		Task: h[contract.HeaderTask], Provider: h[contract.HeaderProvider], Lane: d.Lane, Name: d.Name,
		Attempts: d.Attempt, Failures: d.Failures, Replays: d.Replay, Object: d.Object, Timeline: d.Timeline,
		Bytes: len(m.Body), header: h,
		Origin: Origin{
			Subject: h[contract.HeaderOriginSubject], Stream: h[contract.HeaderOriginStream],
			Time: h[contract.HeaderOriginTime],
		},
	}
	if at, err := time.Parse(time.RFC3339Nano, h[contract.HeaderFailedAt]); err == nil {
		l.FailedAt = at.UTC()
	}
	l.Origin.Seq, _ = strconv.ParseUint(h[contract.HeaderOriginSeq], 10, 64) // 0 where there is none
	rest := strings.TrimPrefix(m.Subject, contract.RootDLQ+".")
	stage, reason, _ := strings.Cut(rest, ".")
	l.Stage, l.Reason = contract.Stage(stage), contract.Reason(reason)
	l.Group = groupID(l.Stage, l.Reason, Shape(l.Error))
	return l
}

// Header returns the headers of the message. Callers do not change it.
func (l *Letter) Header() bus.Header { return l.header }

// Objects names the objects that hold the dead letter.
func (l *Letter) Objects() []store.Ref {
	var refs []store.Ref
	if l.Name != "" {
		refs = append(refs, store.Ref{
			Bucket: contract.BucketDLQ,
			Key:    fmt.Sprintf("%s/%s/%s/%s", l.Stage, l.Reason, doc.Date(l.FailedAt), l.Name),
		})
	}
	if r, ok := store.ParseRef(l.Object); ok {
		refs = append(refs, r)
	}
	return refs
}
