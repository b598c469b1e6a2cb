package topology

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// field is one setting of an asset that we decide. Settings that are not listed are left as
// they are, so that an operator may add placement or compression.
type field[C any] struct {
	name string
	// grave says that a wrong value can lose, repeat or strand documents.
	grave bool
	show  func(c *C) string
	// adopt writes the wanted value into the configuration that is there.
	adopt func(have, want *C)
}

// persistMode is the setting that no update of a stream can change.
const persistMode = "persist_mode"

func streamFields() []field[jetstream.StreamConfig] {
	type sc = jetstream.StreamConfig
	return []field[sc]{
		{"description", false, func(c *sc) string { return c.Description }, func(h, w *sc) { h.Description = w.Description }},
		{"subjects", true, func(c *sc) string { return set(c.Subjects) }, func(h, w *sc) { h.Subjects = w.Subjects }},
		{"retention", true, func(c *sc) string { return c.Retention.String() }, func(h, w *sc) { h.Retention = w.Retention }},
		{"discard", true, func(c *sc) string { return c.Discard.String() }, func(h, w *sc) { h.Discard = w.Discard }},
		{"storage", true, func(c *sc) string { return c.Storage.String() }, func(h, w *sc) { h.Storage = w.Storage }},
		{"max_msgs", true, func(c *sc) string { return number(c.MaxMsgs) }, func(h, w *sc) { h.MaxMsgs = w.MaxMsgs }},
		{"max_bytes", false, func(c *sc) string { return number(c.MaxBytes) }, func(h, w *sc) { h.MaxBytes = w.MaxBytes }},
		{"max_age", true, func(c *sc) string { return age(c.MaxAge) }, func(h, w *sc) { h.MaxAge = w.MaxAge }},
		{"max_msgs_per_subject", true, func(c *sc) string { return number(c.MaxMsgsPerSubject) }, func(h, w *sc) { h.MaxMsgsPerSubject = w.MaxMsgsPerSubject }},
		{"replicas", false, func(c *sc) string { return strconv.Itoa(c.Replicas) }, func(h, w *sc) { h.Replicas = w.Replicas }},
		{"duplicate_window", true, func(c *sc) string { return age(c.Duplicates) }, func(h, w *sc) { h.Duplicates = w.Duplicates }},
		{"deny_delete", true, func(c *sc) string { return strconv.FormatBool(c.DenyDelete) }, func(h, w *sc) { h.DenyDelete = w.DenyDelete }},
		{"deny_purge", true, func(c *sc) string { return strconv.FormatBool(c.DenyPurge) }, func(h, w *sc) { h.DenyPurge = w.DenyPurge }},
		{"allow_rollup", true, func(c *sc) string { return strconv.FormatBool(c.AllowRollup) }, func(h, w *sc) { h.AllowRollup = w.AllowRollup }},
		{"allow_direct", false, func(c *sc) string { return strconv.FormatBool(c.AllowDirect) }, func(h, w *sc) { h.AllowDirect = w.AllowDirect }},
		{"allow_atomic", false, func(c *sc) string { return strconv.FormatBool(c.AllowAtomicPublish) }, func(h, w *sc) { h.AllowAtomicPublish = w.AllowAtomicPublish }},
		{"allow_msg_ttl", true, func(c *sc) string { return strconv.FormatBool(c.AllowMsgTTL) }, func(h, w *sc) { h.AllowMsgTTL = w.AllowMsgTTL }},
		{"delete_marker_ttl", false, func(c *sc) string { return age(c.SubjectDeleteMarkerTTL) }, func(h, w *sc) { h.SubjectDeleteMarkerTTL = w.SubjectDeleteMarkerTTL }},
		{"allow_msg_schedules", true, func(c *sc) string { return strconv.FormatBool(c.AllowMsgSchedules) }, func(h, w *sc) { h.AllowMsgSchedules = w.AllowMsgSchedules }},
		{persistMode, true, func(c *sc) string { return c.PersistMode.String() }, func(h, w *sc) { h.PersistMode = w.PersistMode }},
		{"republish", false, func(c *sc) string { return republish(c.RePublish) }, func(h, w *sc) { h.RePublish = w.RePublish }},
	}
}

func consumerFields() []field[jetstream.ConsumerConfig] {
	type cc = jetstream.ConsumerConfig
	return []field[cc]{
		{"description", false, func(c *cc) string { return c.Description }, func(h, w *cc) { h.Description = w.Description }},
		{"filters", true, filters, func(h, w *cc) { h.FilterSubject, h.FilterSubjects = w.FilterSubject, w.FilterSubjects }},
		{"deliver_policy", true, func(c *cc) string { return c.DeliverPolicy.String() }, func(h, w *cc) { h.DeliverPolicy = w.DeliverPolicy }},
		{"ack_policy", true, func(c *cc) string { return c.AckPolicy.String() }, func(h, w *cc) { h.AckPolicy = w.AckPolicy }},
		{"ack_wait", true, func(c *cc) string { return age(c.AckWait) }, func(h, w *cc) { h.AckWait = w.AckWait }},
		{"max_deliver", true, func(c *cc) string { return strconv.Itoa(c.MaxDeliver) }, func(h, w *cc) { h.MaxDeliver = w.MaxDeliver }},
		{"max_ack_pending", false, func(c *cc) string { return strconv.Itoa(c.MaxAckPending) }, func(h, w *cc) { h.MaxAckPending = w.MaxAckPending }},
		{"backoff", true, func(c *cc) string { return fmt.Sprint(c.BackOff) }, func(h, w *cc) { h.BackOff = w.BackOff }},
	}
}

// Field is a setting that differs.
type Field struct {
	Name string `json:"name"`
	Have string `json:"have"`
	Want string `json:"want"`
	// Grave says that the value that is there can lose, repeat or strand documents.
	Grave bool `json:"grave"`
}

func (f Field) String() string { return f.Name + " " + f.Have + " -> " + f.Want }

// merge compares have with want and writes what is wanted into have.
func merge[C any](fields []field[C], have, want *C) []Field {
	var diff []Field
	for _, f := range fields {
		if h, w := f.show(have), f.show(want); h != w {
			diff = append(diff, Field{Name: f.name, Have: h, Want: w, Grave: f.grave})
			f.adopt(have, want)
		}
	}
	return diff
}

// mergeMetadata does the same for metadata, whose other entries stay.
func mergeMetadata(have *map[string]string, want map[string]string) []Field {
	var diff []Field
	merged := maps.Clone(*have)
	if merged == nil {
		merged = make(map[string]string, len(want))
	}
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if merged[k] != want[k] {
			diff = append(diff, Field{Name: "metadata." + k, Have: merged[k], Want: want[k]})
			merged[k] = want[k]
		}
	}
	if len(diff) > 0 {
		*have = merged
	}
	return diff
}

func set(s []string) string { return strings.Join(slices.Sorted(slices.Values(s)), " ") }

func filters(c *jetstream.ConsumerConfig) string {
	if c.FilterSubject != "" {
		return c.FilterSubject
	}
	return set(c.FilterSubjects)
}

// number shows the broker's two ways to say "none" as one.
func number(n int64) string {
	if n <= 0 {
		return "none"
	}
	return strconv.FormatInt(n, 10)
}

func age(d time.Duration) string {
	if d <= 0 {
		return "none"
	}
	return d.String()
}

func republish(r *jetstream.RePublish) string {
	if r == nil {
		return "none"
	}
	s := r.Source + " to " + r.Destination
	if r.HeadersOnly {
		s += " (headers only)"
	}
	return s
}
