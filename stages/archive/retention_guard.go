package archive

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/store"
)

// The classes of the policy's retention that are none of contract.Class.
const (
	classResults = "results"
	classScraped = "scraped"
	classExports = "exports"
	classInbox   = "inbox"
	classClaims  = "claims"
	classDaily   = "daily"
	classWeekly  = "weekly"
	classMonthly = "monthly"
)

// viewClasses are the classes of what documents leave behind and the archive holds.
func viewClasses() []string {
	var all []string
	for _, c := range contract.Classes() {
		all = append(all, string(c))
	}
	return append(all, classResults, classScraped, classExports)
}

// limitsOf returns how long each class stays; what stays for ever has no limit.
func limitsOf(r policy.Retention) map[string]time.Duration {
	limits := map[string]time.Duration{}
	for class, span := range map[string]policy.Span{
		string(contract.ClassRaw): r.Raw, string(contract.ClassValidated): r.Validated,
		string(contract.ClassEnriched): r.Enriched, string(contract.ClassStandardized): r.Standardized,
		classResults: r.Results, classScraped: r.Scraped, classExports: r.Exports,
		classInbox: r.Inbox, classClaims: r.Claims,
		classDaily: r.Daily, classWeekly: r.Weekly, classMonthly: r.Monthly,
	} {
		if d, keep := span.Duration(); !keep {
			limits[class] = d
		}
	}
	return limits
}

// classOf returns the class of an object by its name, and nothing for what is none of a
// document's views: reserved names, inbox and claims, and whatever lies in other buckets.
func classOf(ref store.Ref, names store.Names) string {
	switch names.Logical(ref.Bucket) {
	case contract.BucketRaw, contract.BucketProcessed:
		for _, c := range contract.Classes() {
			bucket, prefix := contract.ClassBucket(c)
			rest, ok := strings.CutPrefix(ref.Key, prefix)
			parts := strings.Split(rest, "/")
			if ok && bucket == names.Logical(ref.Bucket) && len(parts) == 3 && slices.Contains(contract.Views(), contract.View(parts[0])) {
				return string(c)
			}
		}
	case contract.BucketJobs:
		for prefix, class := range map[string]string{"processed/": classResults, "raw/": classScraped, "exports/": classExports} {
			if strings.HasPrefix(ref.Key, prefix) {
				return class
			}
		}
	}
	return ""
}

// held reports whether an object is under a legal hold, as it is at this moment. A hold names
// its bucket as the line does or as the store does.
func (r *run) held(ref store.Ref) bool {
	s := r.deps.Storage()
	return slices.ContainsFunc(s.LegalHold, func(hold string) bool {
		bucket, prefix, _ := strings.Cut(hold, "/")
		if !strings.HasPrefix(ref.Key, prefix) {
			return false
		}
		same := func(n store.Names) bool { return n.Logical(bucket) == n.Logical(ref.Bucket) }
		return same(r.deps.Names) || same(s.Buckets)
	})
}

// queues knows which objects are named by messages and dead letters, and which documents are
// on their way or have records that are not archived yet. It takes 8 bytes for each of those.
type queues struct {
	of    *run
	seed  maphash.Seed
	next  map[string]uint64 // by stream, where the next scan begins
	named map[store.Ref]bool
	busy  map[uint64]bool
}

func newQueues(r *run) *queues {
	return &queues{
		of: r, seed: maphash.MakeSeed(), next: map[string]uint64{}, named: map[store.Ref]bool{}, busy: map[uint64]bool{},
	}
}

// scanRounds is how often all streams are read before something is removed. In the first round,
// which may have much to read, a message can move from a stream that is still to be read by way
// of a retry to one that has been; the second is over before a retry falls due.
const scanRounds = 2

// refresh reads what came since it was called last, the streams in the order in which messages
// go through them, so that one that moves meanwhile is met. What was named once counts as named
// until this run ends.
func (q *queues) refresh(ctx context.Context) error {
	order := []string{contract.StreamRetry, contract.StreamDLQ}
	for _, s := range contract.Stages() {
		order = append(order, contract.StageStream(s))
	}
	order = append(order, contract.StreamRetry, contract.StreamDLQ, contract.StreamCompleted)
	if q.next[contract.StreamCompleted] == 0 {
		q.next[contract.StreamCompleted] = q.of.state.LastSeq + 1
	}
	for range scanRounds {
		for _, stream := range order {
			if err := q.scan(ctx, stream); err != nil {
				return err
			}
		}
	}
	return nil
}

// scan reads a stream from where it was read last.
func (q *queues) scan(ctx context.Context, stream string) error {
	for m, err := range q.of.deps.Bus.Scan(ctx, stream, "", q.next[stream]) {
		if err != nil {
			return fmt.Errorf("look for what is on its way: %w", err)
		}
		q.next[stream] = m.Seq + 1
		q.note(m)
	}
	return nil
}

// note takes in a message. A dead letter is on no way, but it names objects.
func (q *queues) note(m *bus.Stored) {
	for _, header := range []string{contract.HeaderObject, contract.HeaderRefillOf} {
		if bucket, key, ok := strings.Cut(m.Header[header], "/"); ok {
			q.named[store.Ref{Bucket: q.of.deps.Names.Logical(bucket), Key: key}] = true
		}
	}
	if id := m.Header[contract.HeaderFileID]; id != "" && m.Stream != contract.StreamDLQ {
		q.busy[maphash.String(q.seed, id)] = true
	}
}

// names reports whether a message or dead letter names an object.
func (q *queues) names(ref store.Ref) bool {
	return q.named[store.Ref{Bucket: q.of.deps.Names.Logical(ref.Bucket), Key: ref.Key}]
}

// has reports whether a document is on its way or has a record that is not archived. It may
// say so of others too.
func (q *queues) has(fileID string) bool { return q.busy[maphash.String(q.seed, fileID)] }
