package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/minio/minio-go/v7"
	"github.com/nats-io/nats.go/jetstream"
)

// ref names an object.
type ref struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
}

func (r ref) String() string { return r.Bucket + "/" + r.Key }

// record is what is read of a terminal record.
type record struct {
	Outcome string `json:"outcome"`
	Objects []ref  `json:"objects"`
	Result  *ref   `json:"result"`
}

// Checker proves the invariants. Store and broker are asked directly, past everything that
// was done to the line's own connections.
type Checker struct {
	JS     jetstream.JetStream
	Store  *minio.Client
	Ledger *Ledger
	// Readers is how many objects are read at the same time, at least 1.
	Readers int
}

// Report is what a check found.
type Report struct {
	Completed, Dead, Objects, Archived int
	Reasons                            map[string]int // of dead letters
	Violations                         []Violation
}

// Broken returns how often an invariant does not hold.
func (r *Report) Broken(i Invariant) int {
	n := 0
	for _, v := range r.Violations {
		if v.Invariant == i {
			n++
		}
	}
	return n
}

// checking is one run of a Checker.
type checking struct {
	*Checker
	entries map[string]Entry
	ends    map[string][]*end // by file_id

	mu     sync.Mutex
	others map[string]bool // file_ids that messages with other bytes than the first's have
	report Report
}

// Check looks at everything. The line must be at rest.
func (c *Checker) Check(ctx context.Context) (*Report, error) {
	k := &checking{Checker: c, entries: c.Ledger.entries(), ends: map[string][]*end{}, others: map[string]bool{}}
	k.report.Reasons = map[string]int{}
	if err := k.readEnds(ctx); err != nil {
		return nil, err
	}
	for id, e := range k.entries {
		k.terminal(id, &e)
	}
	for id, ends := range k.ends {
		k.known(id, ends)
	}
	if err := k.objects(ctx); err != nil {
		return nil, err
	}
	k.conflicts()
	if err := k.archives(ctx); err != nil {
		return nil, err
	}
	depths, err := Depths(ctx, c.JS)
	if err != nil {
		return nil, err
	}
	for name, n := range depths {
		k.violate(Emptied, name, "holds %d messages", n)
	}
	return &k.report, nil
}

func (k *checking) violate(i Invariant, fileID, format string, args ...any) {
	k.add(Violation{Invariant: i, FileID: fileID, Detail: fmt.Sprintf(format, args...)})
}

// lose is violate for a document of which something is nowhere.
func (k *checking) lose(i Invariant, fileID, format string, args ...any) {
	k.add(Violation{Invariant: i, FileID: fileID, Detail: fmt.Sprintf(format, args...), Effect: Lost})
}

// double is violate for a document that had an effect more than once.
func (k *checking) double(i Invariant, fileID, format string, args ...any) {
	k.add(Violation{Invariant: i, FileID: fileID, Detail: fmt.Sprintf(format, args...), Effect: Doubled})
}

func (k *checking) add(v Violation) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.report.Violations = append(k.report.Violations, v)
}

// readEnds reads all records and dead letters.
func (k *checking) readEnds(ctx context.Context) error {
	err := scan(ctx, k.JS, streamCompleted, false, func(m jetstream.Msg) error {
		e, err := newEnd(m)
		if err != nil {
			return err
		}
		e.record = &record{}
		if err := json.Unmarshal(m.Data(), e.record); err != nil {
			k.violate(Readable, e.file, "its record is no JSON: %v", err)
		}
		k.ends[e.file] = append(k.ends[e.file], e)
		k.report.Completed++
		return nil
	})
	if err != nil {
		return err
	}
	return scan(ctx, k.JS, streamDLQ, true, func(m jetstream.Msg) error {
		e, err := newEnd(m)
		if err != nil {
			return err
		}
		k.ends[e.file] = append(k.ends[e.file], e)
		k.report.Dead++
		k.report.Reasons[e.reason]++
		return nil
	})
}

// terminal checks how one document of the ledger ended.
func (k *checking) terminal(id string, e *Entry) {
	ends := k.ends[id]
	byReplay, completed, dead := map[int]int{}, 0, 0
	for _, x := range ends {
		byReplay[x.replay]++
		if x.record != nil {
			completed++
		} else {
			dead++
		}
	}
	switch {
	case len(ends) == 0 && e.Confirmed:
		k.lose(OneEnd, id, "accepted, and has no end")
		return
	case len(ends) == 0:
		return // it never came in
	case completed > 1:
		k.double(OneEnd, id, "has %d terminal records", completed)
	}
	for n, times := range byReplay {
		if times > 1 {
			k.double(OneEnd, id, "has %d ends at replay count %d: %s", times, n, describe(ends))
		}
	}
	if e.End == Completes && dead > 0 {
		k.violate(SoundEnds, id, "%s", describe(ends))
	}
	if e.End == Dies && completed > 0 {
		k.violate(OneEnd, id, "completed, and was to be a dead letter: %s", describe(ends))
	}
}

func describe(ends []*end) string {
	var s strings.Builder
	for _, e := range ends {
		if e.record != nil {
			_, _ = fmt.Fprintf(&s, "[record %d, replay %d] ", e.seq, e.replay)
		} else {
			_, _ = fmt.Fprintf(&s, "[dead letter %d, %s, replay %d] ", e.seq, e.reason, e.replay)
		}
	}
	return s.String()
}

// known checks ends that belong to no document of the ledger, and the headers of all.
func (k *checking) known(id string, ends []*end) {
	_, ours := k.entries[id]
	for _, e := range ends {
		if e.foreign != "" {
			k.violate(CleanEnds, id, "header %s: %s", e.foreign, describe([]*end{e}))
		}
		_, copied := k.entries[e.producerID]
		ours = ours || copied // the record of a replay does not say whose id it was
	}
	if !ours {
		k.violate(OneEnd, id, "was never sent, and has an end: %s", describe(ends))
	}
}

// conflicts checks that each message that came under a taken file_id with other bytes is one
// dead letter, under an id of its own.
func (k *checking) conflicts() {
	got := map[string]map[string]bool{}
	for id, ends := range k.ends {
		for _, e := range ends {
			if e.producerID == "" {
				continue
			}
			if got[e.producerID] == nil {
				got[e.producerID] = map[string]bool{}
			}
			got[e.producerID][id] = true
			if e.reason != "conflict" && e.record == nil && e.replay == 0 {
				k.violate(OneEnd, id, "conflicts with %s and is %s", e.producerID, describe(ends))
			}
		}
	}
	for id, e := range k.entries {
		least, most := e.conflicting(k.others[id])
		if n := len(got[id]); n < least || n > most {
			k.violate(OneEnd, id, "%d to %d messages conflict with it, and %d ended so", least, most, n)
		}
	}
}
