package doc

import (
	"strconv"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
)

// Headers returns the headers of d as a message written by stage from. It is an allow-list:
// nothing that d does not hold in a field is passed on.
func (d *Document) Headers(from contract.Stage) bus.Header {
	h := bus.Header{}
	set := func(name, value string) {
		if value != "" {
			h[name] = value
		}
	}
	m := &d.Metadata
	set(contract.HeaderFileID, m.FileID)
	set(contract.HeaderTask, m.TaskType)
	set(contract.HeaderProvider, m.Provider)
	set(contract.HeaderLane, string(d.Lane))
	set(contract.HeaderAttempt, strconv.Itoa(max(d.Attempt, 1)))
	set(contract.HeaderStage, string(from))
	set(contract.HeaderSchema, m.Schema)
	set(contract.HeaderName, d.Name)
	set(contract.HeaderObject, d.Object)
	set(contract.HeaderSHA256, strings.TrimPrefix(m.Checksum, "sha256:"))
	set(contract.HeaderTimeline, formatTimeline(d.Timeline))
	set(contract.HeaderLayout, d.Layout.String())
	set(contract.HeaderSource, d.Source)
	set(contract.HeaderTimer, d.Timer)
	set(contract.HeaderFailures, strings.Join(d.Failures, ","))
	set(contract.HeaderTrace, d.Trace)
	set(contract.HeaderReplayOf, d.ReplayOf)
	if d.Replay > 0 {
		set(contract.HeaderReplayCount, strconv.Itoa(d.Replay))
	}
	return h
}

// OriginHeader adds where d came from first, as retries and dead letters carry it.
func (d *Document) OriginHeader(h bus.Header) {
	h[contract.HeaderOriginSubject] = strings.ToValidUTF8(d.Origin.Subject, "\uFFFD")
	h[contract.HeaderOriginStream] = d.Origin.Stream
	h[contract.HeaderOriginSeq] = strconv.FormatUint(d.Origin.Seq, 10)
	h[contract.HeaderOriginTime] = d.Origin.Time.UTC().Format(time.RFC3339Nano)
}

// FromMessage reads what a message's headers say; the body is taken as it is. Headers win
// over nothing here: a stage decides what they mean beside the envelope.
func FromMessage(m *bus.Stored) *Document {
	h := readable(m.Header)
	d := &Document{
		Body: m.Body, Header: h, Lane: contract.Lane(h[contract.HeaderLane]), Name: h[contract.HeaderName],
		Source: h[contract.HeaderSource], Timer: h[contract.HeaderTimer], Object: h[contract.HeaderObject],
		Attempt: max(number(h[contract.HeaderAttempt]), 1), Replay: number(h[contract.HeaderReplayCount]),
		ReplayOf: h[contract.HeaderReplayOf], Timeline: parseTimeline(h[contract.HeaderTimeline]),
		Trace: h[contract.HeaderTrace],
	}
	d.Metadata.FileID = h[contract.HeaderFileID]
	d.Layout, _ = ParseLayout(h[contract.HeaderLayout]) // a stage refuses what is none
	if f := h[contract.HeaderFailures]; f != "" {
		d.Failures = strings.Split(f, ",")
	}
	d.Origin = Origin{Subject: m.Subject, Stream: m.Stream, Seq: m.Seq, Time: m.Time}
	// Only the broker puts messages on the retry stream, so only there an origin is believed.
	if m.Stream == contract.StreamRetry && h[contract.HeaderOriginStream] != "" {
		seq, _ := strconv.ParseUint(h[contract.HeaderOriginSeq], 10, 64)
		at, _ := time.Parse(time.RFC3339Nano, h[contract.HeaderOriginTime])
		d.Origin = Origin{
			Subject: h[contract.HeaderOriginSubject], Stream: h[contract.HeaderOriginStream], Seq: seq, Time: at,
		}
	}
	return d
}

// maxHeader is the longest value of a header of ours, in bytes. All of them together stay
// below the 64 KiB that the broker takes.
const maxHeader = 2048

// readable returns the headers of ours as text that fits a header and JSON: a producer may
// have sent any bytes. A timeline that is too long is left out, anything else is cut.
func readable(sent bus.Header) bus.Header {
	h := make(bus.Header, len(sent))
	for name, value := range sent {
		if len(value) > maxHeader {
			if name == contract.HeaderTimeline {
				continue
			}
			value = value[:maxHeader]
		}
		h[name] = strings.ToValidUTF8(value, "\uFFFD")
	}
	return h
}

// number reads a count from a header; what is none, or absurd, is 0.
func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 1_000_000 {
		return 0
	}
	return n
}
