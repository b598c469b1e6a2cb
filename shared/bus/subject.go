package bus

import (
	"fmt"
	"strings"
)

// The headers that the broker itself reads or writes, as far as this package uses them.
const (
	headerMsgID            = "Nats-Msg-Id"
	headerTTL              = "Nats-TTL"
	headerExpectedRevision = "Nats-Expected-Last-Subject-Sequence"
	headerBatchID          = "Nats-Batch-Id"
	headerBatchSequence    = "Nats-Batch-Sequence"
	headerBatchCommit      = "Nats-Batch-Commit"
	headerSchedule         = "Nats-Schedule"
	headerScheduleTarget   = "Nats-Schedule-Target"
	headerScheduleNext     = "Nats-Schedule-Next"
	headerScheduler        = "Nats-Scheduler"
	headerStream           = "Nats-Stream"
	headerSubject          = "Nats-Subject"
	headerSequence         = "Nats-Sequence"
	headerTimeStamp        = "Nats-Time-Stamp"
	headerNumPending       = "Nats-Num-Pending"
	headerLastSequence     = "Nats-Last-Sequence"
	headerPendingMessages  = "Nats-Pending-Messages"
	headerMarkerReason     = "Nats-Marker-Reason"
	headerMsgSize          = "Nats-Msg-Size"
	headerOperation        = "KV-Operation"
	headerStatus           = "Status"
	headerDescription      = "Description"

	// reservedPrefix begins the names of the headers that steer the broker.
	reservedPrefix = "Nats-"
)

// Matches reports whether subject is matched by filter, whose tokens may be "*" and, at the
// end, ">".
func Matches(filter, subject string) bool {
	for {
		f, filterRest, filterMore := strings.Cut(filter, ".")
		if f == ">" {
			return true
		}
		s, subjectRest, subjectMore := strings.Cut(subject, ".")
		if f != "*" && f != s {
			return false
		}
		if !filterMore || !subjectMore {
			return filterMore == subjectMore
		}
		filter, subject = filterRest, subjectRest
	}
}

// checkSubject refuses what cannot be published to: wildcards, blanks and empty tokens.
func checkSubject(subject string) error {
	for token := range strings.SplitSeq(subject, ".") {
		if token == "" || strings.ContainsAny(token, "*> \t\r\n\x00") {
			return fmt.Errorf("subject %q cannot be published to", subject)
		}
	}
	return nil
}

// checkMessage refuses headers that would steer the broker, or that make a message without
// a body look like a control message.
func checkMessage(m Message) error {
	if err := checkSubject(m.Subject); err != nil {
		return err
	}
	if strings.ContainsAny(m.ID, "\r\n") {
		return fmt.Errorf("message id %q holds a line break", m.ID)
	}
	for name := range m.Header {
		if err := checkHeader(name); err != nil {
			return err
		}
	}
	return nil
}

func checkHeader(name string) error {
	if !validHeaderName(name) {
		return fmt.Errorf("header name %q is invalid", name)
	}
	if len(name) >= len(reservedPrefix) && strings.EqualFold(name[:len(reservedPrefix)], reservedPrefix) ||
		strings.EqualFold(name, headerStatus) || strings.EqualFold(name, headerDescription) {
		return fmt.Errorf("header %q belongs to the broker", name)
	}
	return nil
}

// validHeaderName reports whether name is made of visible ASCII without a colon.
func validHeaderName(name string) bool {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == ':' {
			return false
		}
	}
	return name != ""
}
